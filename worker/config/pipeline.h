// pipeline.config: loading, overriding, checking, saving. No LibTorch: operator and worker judge a config by this code.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tzrec/pipeline.pb.h"
#include "worker/config/source_map.h"

namespace anneal::config {

/// A config with where its fields came from.
struct LoadedConfig {
  std::string file;
  tzrec::protos::EasyRecConfig config;
  SourceMap sources;
};

/// Reads a file of at most 64 MiB. Throws ConfigError naming it.
std::string ReadTextFile(const std::string& path);

/// Throws ConfigError when there is something at the path that is no file, like a pipe, for which a reader would wait;
/// `name` is what the message calls it.
void RequireRegular(const std::string& path, const std::string& name);

/// Text format, or JSON when `file` ends in .json. `fg_encoded` is rewritten to fg_mode (parity/protos.md). Throws
/// ConfigFaults with every fault of the text.
LoadedConfig ParsePipelineConfig(const std::string& text, const std::string& file);
LoadedConfig LoadPipelineConfig(const std::string& path);

/// Command-line values; empty ones change nothing. Applied in the order of parity/train.md 1.
struct Overrides {
  std::string fine_tune_checkpoint, train_input_path, eval_input_path, model_dir, edit_config_json;
};
void ApplyOverrides(tzrec::protos::EasyRecConfig& config, const Overrides& overrides);

/// Everything wrong with a config that parsed: contradictions, references to nothing, what no part of Anneal supports
/// yet. Empty when it can be trained.
std::vector<Fault> Validate(const LoadedConfig& loaded);

/// Parse, override, validate. Throws ConfigFaults with every fault of all three at once; a fault in or around a field
/// that could not be read is left out.
tzrec::protos::EasyRecConfig CheckedConfig(const std::string& text, const std::string& file,
                                           const Overrides& overrides);

/// CheckedConfig of a file.
tzrec::protos::EasyRecConfig LoadForRun(const std::string& path, const Overrides& overrides);

/// Writes text format, whole or not at all.
void SavePipelineConfig(const tzrec::protos::EasyRecConfig& config, const std::string& path);

/// `anneal check FILE...`: prints every fault of every file, or one line about a good one. Returns 0 or 64. `build`
/// makes what a config without a fault describes, and throws ConfigError where that cannot be.
int RunCheck(const std::vector<std::string>& files, const Overrides& overrides,
             const std::function<void(const tzrec::protos::EasyRecConfig&)>& build);

}  // namespace anneal::config
