#include "worker/export/release.h"

#include <torch/version.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/train/progress/log.h"

namespace anneal::exporting {

namespace {

/// What the files were when they were checked; a report of an older version does not tell.
io::FileHashes CheckedFiles(const nlohmann::ordered_json& report, const std::string& path) {
  io::FileHashes files;
  if (!report.contains("files")) {
    LogWarning(path + " does not say what the checked files were: they are published as they are");
    return files;
  }
  bool good = report["files"].is_object() && !report["files"].empty();
  for (const auto& [name, sha256] : report["files"].items()) {
    good = good && sha256.is_string();
    if (good) files[name] = sha256;
  }
  if (!good) throw ConfigError(path + ": files has to hold the SHA-256 of each checked file");
  return files;
}

}  // namespace

io::Published Release(const std::string& folder, io::ObjectStore& store) {
  const std::string path = folder + "/export_report.json";
  if (!std::filesystem::exists(path)) throw ConfigError(folder + " is no export: there is no export_report.json");
  const auto report = nlohmann::ordered_json::parse(std::ifstream(path), nullptr, false);
  const bool passed = report.is_object() && report.contains("passed") && report["passed"] == true;
  if (!passed || !report.contains("step") || !report["step"].is_number_integer()) {
    throw ConfigError(path + " does not say that the export passed its check: it is not published");
  }
  nlohmann::ordered_json about;
  for (const char* key : {"step", "format", "metrics", "max_abs_diff", "config_sha256"}) {
    about[key] = report.value(key, nlohmann::ordered_json());
  }
  about["torch"] = TORCH_VERSION;
  const io::Published published = io::Publish(folder, store, about, CheckedFiles(report, path));
  LogInfo("Published " + published.uri + " (" + std::to_string(published.bytes) + " bytes, " +
          std::to_string(published.sent) + " sent)");
  return published;
}

int RunPublish(const std::string& folder, const Destination& destination) {
  if (destination.uri.empty()) throw ConfigError("--publish_uri is missing");
  Release(folder, *io::OpenStore(destination.uri, destination.s3));
  return 0;
}

}  // namespace anneal::exporting
