#include "worker/export/assets.h"

#include <filesystem>

#include "worker/config/error.h"
#include "worker/config/feature_kinds.h"
#include "worker/features/vocabulary.h"
#include "worker/io/digest.h"

namespace anneal::exporting {
namespace {

namespace fs = std::filesystem;

/// Calls visit(feature) with every feature that has an asset file.
template <typename Visit>
void EachAsset(tzrec::protos::EasyRecConfig& config, Visit visit) {
  for (const config::FeatureEntry& entry : config::FeatureEntries(config)) {
    if (entry.feature == nullptr) continue;
    config::VisitFeature(config::FeatureAt(config, entry.config_index, entry.member_index), [&](auto& feature) {
      if constexpr (requires { feature.vocab_file(); }) {
        if (feature.has_vocab_file()) visit(feature);
      }
    });
  }
}

}  // namespace

std::map<std::string, std::string> PackAssets(tzrec::protos::EasyRecConfig& config, const std::string& folder,
                                              const std::string& final_folder) {
  std::map<std::string, std::string> names;
  EachAsset(config, [&](auto& feature) {
    const std::string path = features::VocabPath(feature);
    const fs::path file(path);
    if (!fs::is_regular_file(file)) {
      throw ConfigError("feature '" + feature.feature_name() + "': there is no vocab_file " + path);
    }
    const std::string name =
        file.stem().string() + "_" + io::FileDigest(path, io::Hash::kMd5) + file.extension().string();
    std::error_code error;
    fs::copy_file(file, fs::path(folder) / name, fs::copy_options::overwrite_existing, error);
    if (error) throw TemporaryError("cannot copy " + path + ": " + error.message());
    names[path] = name;
    feature.set_vocab_file(name);
    feature.set_asset_dir(final_folder);
  });
  return names;
}

config::LoadedConfig LoadExportConfig(const std::string& folder) {
  auto loaded = config::LoadPipelineConfig(folder + "/pipeline.config");
  EachAsset(loaded.config, [&folder](auto& feature) { feature.set_asset_dir(folder); });
  return loaded;
}

}  // namespace anneal::exporting
