// What a finished run leaves outside its own volume: the last checkpoint with the config it needs.
#pragma once

#include <string>

#include "worker/io/publish.h"

namespace anneal::train {

/// Publishes model_dir's newest checkpoint as a version that is itself a model_dir: pipeline.config, the results of the
/// evaluations, model.ckpt-<step>/. The manifest gets the step and the torch version. Throws what the store throws, and
/// TemporaryError when there is no checkpoint.
io::Published UploadModel(const std::string& model_dir, io::ObjectStore& store);

}  // namespace anneal::train
