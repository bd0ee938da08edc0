// A trained model as a TorchScript module that stock LibTorch or Python torch loads, with no code of ours.
//
// Parameters carry the checkpoint's state names. The lookups are TorchScript source; the dense model is traced, so that
// a new model needs no export code of its own.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <string>

#include "worker/data/batch.h"
#include "worker/eval/trained_model.h"
#include "worker/export/settings.h"

namespace anneal::exporting {

/// What a module is to hold.
struct Contents {
  bool tables = true, dense = true;
};

/// A module with the methods `lookup` (lookup_source.h; when it holds the tables) and model.dense_forward(...)
/// of lookup's results -> outputs in the order of prediction_names() (when it holds the dense parameters). `sample` is
/// any batch with rows: it traces the graph and sizes nothing.
struct ScriptedParts {
  torch::jit::Module root;
  std::string lookup_source;
};
ScriptedParts BuildModule(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
                          Contents contents = {});

/// The traced graph of the dense part, as text.
std::string DenseGraph(const ScriptedParts& parts);

/// Compiles methods into a module; `quantized.` is known in their source.
void Define(torch::jit::Module& module, const std::string& source);

/// Writes scripted_model.pt and gm.code (its source) into `folder`. Interface: parity/export.md 4.
void WriteTorchScript(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
                      const std::string& folder);

/// Writes scripted_sparse_model.pt (input dictionary -> boundary tensors), gm_sparse.code and graph/gm_sparse.graph.
void WriteSparsePart(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
                     const std::string& folder);

/// Saves a module. Throws TemporaryError naming the file.
void SaveModule(const torch::jit::Module& module, const std::string& path);

}  // namespace anneal::exporting
