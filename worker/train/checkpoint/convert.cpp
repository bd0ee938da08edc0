#include "worker/train/checkpoint/convert.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/train/checkpoint/checkpoint.h"
#include "worker/train/checkpoint/dcp/layout.h"
#include "worker/train/progress/log.h"

namespace anneal::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTexts[] = {"plan", "dataloader_state.json", "train_state.json", "delta_embedding_rows.json"};

void WriteDcp(const Reader& reader, const fs::path& target) {
  std::map<std::string, std::map<std::string, dcp::Tensor>> parts;
  for (const auto& [name, stored] : reader.tensors()) {
    const dcp::PlaceInLayout place = dcp::PlaceOf(name);
    dcp::Tensor tensor;
    tensor.shape = stored.shape;
    tensor.dtype = stored.pieces.front().second.dtype;
    tensor.keys = place.keys;
    for (const auto& [block, view] : stored.pieces) tensor.chunks.push_back({OffsetsOf(block, stored), view});
    parts[place.part][place.name()] = std::move(tensor);
  }
  const auto state = nlohmann::json::parse(reader.file("train_state.json").value_or("{}"), nullptr, false);
  const int64_t averages = state.is_object() ? state.value("ema_updates", int64_t{1}) : 1;
  if (const auto ema = parts.find("dense_ema"); ema != parts.end()) {
    ema->second["__n_averaged__"] = {DType::kI64, {}, {{{}, {"", DType::kI64, {}, &averages}}}, {"__n_averaged__"}};
  }
  const fs::path folder = target.parent_path() / ("." + target.filename().string() + ".unfinished");
  fs::remove_all(folder);
  for (const auto& [part, tensors] : parts) {
    fs::create_directories(folder / part);
    dcp::WriteDcpFolder(folder / part, tensors);
  }
  for (const char* name : kTexts) {
    if (const auto text = reader.file(name)) WriteFileSynced(folder / name, *text);
  }
  SyncFolder(folder);
  fs::rename(folder, target);
  SyncFolder(target.parent_path());
}

void WriteOurs(const Reader& reader, const std::string& model_dir, int64_t step) {
  Contents contents;
  contents.step = step;
  std::vector<std::string> joined;  // the pieces of tensors that came in several
  joined.reserve(reader.tensors().size());
  for (const auto& [name, stored] : reader.tensors()) {
    TensorView whole = stored.pieces.front().second;
    whole.name = name;
    whole.shape = stored.shape;
    if (stored.pieces.size() > 1) {
      joined.push_back(reader.Join(name));
      whole.data = joined.back().data();
    }
    (name.find("//") == std::string::npos ? contents.model : contents.optimizer).push_back({whole});
  }
  for (const char* name : kTexts) {
    if (const auto text = reader.file(name)) contents.files[name] = *text;
  }
  std::string problem;
  if (Save(model_dir, contents, {}, &problem).empty()) throw TemporaryError(problem);
}

}  // namespace

int RunConvert(const ConvertOptions& options) {
  if (options.to != "dcp" && options.to != "safetensors") {
    throw ConfigError("--to: '" + options.to + "' is not dcp or safetensors");
  }
  const auto source = OpenLatest(options.source, LogWarning);
  if (!source) throw ConfigError("there is no checkpoint at " + options.source);
  const Reader& reader = *source;
  const int64_t step = reader.step();
  const fs::path target = CheckpointPath(options.target, step);
  if (fs::exists(target)) throw ConfigError(target.string() + " is there already");
  fs::create_directories(options.target);
  if (options.to == "dcp") {
    WriteDcp(reader, target);
  } else {
    WriteOurs(reader, options.target, step);
  }
  LogInfo("Wrote " + std::to_string(reader.tensors().size()) + " tensors of " + reader.path() + " to " +
          target.string());
  return 0;
}

}  // namespace anneal::checkpoint
