// Files that features read (vocabularies), packed with an export (parity/features.md 8).
#pragma once

#include <map>
#include <string>

#include "tzrec/pipeline.pb.h"
#include "worker/config/pipeline.h"

namespace anneal::exporting {

/// Copies each feature's asset file into `folder` as <stem>_<md5 of its content><ext> and makes `config` name it so,
/// with asset_dir `final_folder`. Returns path as configured -> name. Throws ConfigError naming the feature when a file
/// cannot be read.
std::map<std::string, std::string> PackAssets(tzrec::protos::EasyRecConfig& config, const std::string& folder,
                                              const std::string& final_folder);

/// The pipeline.config of an export, its assets taken from where the export lies now.
config::LoadedConfig LoadExportConfig(const std::string& folder);

}  // namespace anneal::exporting
