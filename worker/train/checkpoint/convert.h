// `anneal checkpoint convert`: Anneal's checkpoints to TorchEasyRec's (torch.distributed.checkpoint) and back.
#pragma once

#include <string>

namespace anneal::checkpoint {

struct ConvertOptions {
  std::string source;  ///< a model.ckpt-<step> folder of either kind, a model_dir (its newest), a .safetensors file
  std::string target;  ///< a model_dir: target/model.ckpt-<step> is made, whole or not at all
  std::string to;      ///< dcp | safetensors
};

/// Returns 0. Throws ConfigError when there is no source or the result is there already, DataError for a damaged source,
/// TemporaryError when the disk fails.
int RunConvert(const ConvertOptions& options);

}  // namespace anneal::checkpoint
