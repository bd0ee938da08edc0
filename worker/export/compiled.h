// Formats that a compiler makes: AOTInductor packages and ONNX.
#pragma once

#include <string>

#include "worker/data/batch.h"
#include "worker/eval/trained_model.h"
#include "worker/export/settings.h"

namespace anneal::exporting {

/// scripted_sparse_model.pt and the dense part as aoti/aoti_model.pt2, which takes the boundary tensors by name.
void WriteAot(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
              const std::string& folder);

/// The whole model as aoti/aoti_model.pt2, which takes the input dictionary.
void WriteAotUnified(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
                     const std::string& folder);

/// scripted_sparse_model.pt and the dense part as dense.onnx: inputs are the boundary tensors, outputs the predictions,
/// both by name, the batch axis dynamic.
void WriteOnnx(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
               const std::string& folder);

/// dense.engine from dense.onnx, for batches of 1 to settings.max_batch rows, computing in
/// export_config.mixed_precision where it is set. Throws ConfigError saying what is missing: TensorRT's Python package
/// or a GPU.
void WriteEngine(const eval::TrainedModel& model, const Settings& settings, const std::string& folder);

}  // namespace anneal::exporting
