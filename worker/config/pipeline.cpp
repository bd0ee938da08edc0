#include "worker/config/pipeline.h"

#include <fcntl.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "worker/config/edit.h"
#include "worker/config/sampler_settings.h"
#include "worker/config/text_format.h"

namespace anneal::config {
namespace {

constexpr int64_t kMaxBytes = int64_t{64} << 20;

void ParseJson(const std::string& text, LoadedConfig& loaded, std::vector<Fault>& faults) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = false;
  const auto status = google::protobuf::util::JsonStringToMessage(text, &loaded.config, options);
  if (!status.ok()) faults.push_back({"", {}, std::string(status.message())});
}

// The deprecated field wins over fg_mode.
void RewriteFgMode(tzrec::protos::EasyRecConfig& config) {
  if (!config.has_data_config() || !config.data_config().has_fg_encoded()) return;
  auto& data = *config.mutable_data_config();
  data.set_fg_mode(data.fg_encoded()       ? tzrec::protos::FG_NONE
                   : data.fg_threads() > 0 ? tzrec::protos::FG_DAG
                                           : tzrec::protos::FG_NORMAL);
  data.clear_fg_encoded();
}

// Parses and overrides; what is wrong with the text goes to `faults`, what is left of it is still a config.
LoadedConfig ParseWhatCanBe(const std::string& text, const std::string& file, std::vector<Fault>& faults) {
  LoadedConfig loaded;
  loaded.file = file;
  if (file.ends_with(".json")) {
    ParseJson(text, loaded, faults);
  } else {
    ParseTextFormat(text, loaded.config, loaded.sources, faults);
  }
  RewriteFgMode(loaded.config);
  return loaded;
}

// One is the other, or lies in it: "a.b" and "a.b[2].c". Everything lies in "".
bool Related(const std::string& a, const std::string& b) {
  const std::string& outer = a.size() < b.size() ? a : b;
  const std::string& inner = a.size() < b.size() ? b : a;
  return inner.starts_with(outer) &&
         (outer.empty() || inner.size() == outer.size() || inner[outer.size()] == '.' || inner[outer.size()] == '[');
}

}  // namespace

void RequireRegular(const std::string& path, const std::string& name) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    throw ConfigError(name + " is no regular file");
}

std::string ReadTextFile(const std::string& path) {
  RequireRegular(path, path);
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) throw ConfigError("cannot read " + path + ": " + std::strerror(errno));
  const int64_t size = in.tellg();
  if (size < 0 || size > kMaxBytes) throw ConfigError(path + " is not a file of at most 64 MiB");
  in.seekg(0);
  std::string text(static_cast<size_t>(size), '\0');
  in.read(text.data(), size);
  return text;
}

LoadedConfig ParsePipelineConfig(const std::string& text, const std::string& file) {
  std::vector<Fault> faults;
  LoadedConfig loaded = ParseWhatCanBe(text, file, faults);
  if (!faults.empty()) throw ConfigFaults(file, std::move(faults));
  return loaded;
}

LoadedConfig LoadPipelineConfig(const std::string& path) { return ParsePipelineConfig(ReadTextFile(path), path); }

void ApplyOverrides(tzrec::protos::EasyRecConfig& config, const Overrides& overrides) {
  if (!overrides.fine_tune_checkpoint.empty()) {
    config.mutable_train_config()->set_fine_tune_checkpoint(overrides.fine_tune_checkpoint);
  }
  if (!overrides.train_input_path.empty()) config.set_train_input_path(overrides.train_input_path);
  if (!overrides.eval_input_path.empty()) config.set_eval_input_path(overrides.eval_input_path);
  if (!overrides.model_dir.empty()) config.set_model_dir(overrides.model_dir);
  if (!overrides.edit_config_json.empty()) EditConfig(config, overrides.edit_config_json);
  RewriteFgMode(config);
}

tzrec::protos::EasyRecConfig CheckedConfig(const std::string& text, const std::string& file,
                                           const Overrides& overrides) {
  std::vector<Fault> faults;
  LoadedConfig loaded = ParseWhatCanBe(text, file, faults);
  const size_t unreadable = faults.size();
  const bool edited = !overrides.edit_config_json.empty();
  std::vector<Fault> unedited;
  if (edited) {
    LoadedConfig other = loaded;
    Overrides flags = overrides;
    flags.edit_config_json.clear();
    ApplyOverrides(other.config, flags);
    unedited = Validate(other);
  }
  try {
    ApplyOverrides(loaded.config, overrides);
  } catch (const ConfigError& error) {
    if (unreadable == 0) throw;
    faults.push_back({"", {}, error.what()});
  }
  for (Fault& fault : Validate(loaded)) {
    // In or around a field that could not be read, it may only be what follows from that.
    const auto end = faults.begin() + static_cast<std::ptrdiff_t>(unreadable);
    if (std::any_of(faults.begin(), end, [&](const Fault& cause) { return Related(cause.path, fault.path); })) continue;
    const auto same = [&](const Fault& other) { return other.path == fault.path && other.message == fault.message; };
    if (edited && std::none_of(unedited.begin(), unedited.end(), same)) {
      fault.at = {};  // the line shows what the edits have replaced
      fault.message += " (after the config edits)";
    }
    faults.push_back(std::move(fault));
  }
  if (faults.empty()) return loaded.config;
  std::stable_sort(faults.begin(), faults.end(), [](const Fault& a, const Fault& b) { return a.at.line < b.at.line; });
  throw ConfigFaults(file, std::move(faults));
}

tzrec::protos::EasyRecConfig LoadForRun(const std::string& path, const Overrides& overrides) {
  if (path.empty()) throw ConfigError("--pipeline_config_path is missing");
  return CheckedConfig(ReadTextFile(path), path, overrides);
}

void SavePipelineConfig(const tzrec::protos::EasyRecConfig& config, const std::string& path) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetUseUtf8StringEscaping(true);
  std::string text;
  printer.PrintToString(config, &text);
  const std::string temporary = path + ".tmp";
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  bool good = fd >= 0;
  for (size_t at = 0; good && at < text.size();) {
    const ssize_t written = ::write(fd, text.data() + at, text.size() - at);
    good = written > 0;
    at += good ? static_cast<size_t>(written) : 0;
  }
  good = good && ::fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (!good || ::rename(temporary.c_str(), path.c_str()) != 0) {
    ::unlink(temporary.c_str());
    throw TemporaryError("cannot write " + path + ": " + std::strerror(error));
  }
}

int RunCheck(const std::vector<std::string>& files, const Overrides& overrides,
             const std::function<void(const tzrec::protos::EasyRecConfig&)>& build) {
  size_t faults = 0;
  for (const std::string& file : files) {
    try {
      const auto config = LoadForRun(file, overrides);
      std::vector<Fault> missing;
      CheckSamplerFiles(config.data_config(), [&](const std::string& path, const std::string& message) {
        missing.push_back({path, {}, message});
      });
      if (!missing.empty()) throw ConfigFaults(file, std::move(missing));
      build(config);
      const auto* oneof = config.model_config().GetDescriptor()->FindOneofByName("model");
      const auto* model = config.model_config().GetReflection()->GetOneofFieldDescriptor(config.model_config(), oneof);
      std::cout << file << ": good: " << model->name() << ", " << config.feature_configs_size() << " features, "
                << config.model_config().feature_groups_size() << " feature groups\n";
    } catch (const ConfigFaults& found) {
      std::cout << found.what() << "\n";
      faults += found.faults().size();
    } catch (const ConfigError& error) {
      std::cout << file << ": " << error.what() << "\n";
      ++faults;
    }
  }
  if (faults == 0) return 0;
  std::cout << faults << (faults == 1 ? " fault\n" : " faults\n");
  return static_cast<int>(ExitCode::kConfig);
}

}  // namespace anneal::config
