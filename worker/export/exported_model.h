// An exported model, loaded as anybody would load it: LibTorch and the files, nothing else.
#pragma once

#include <ATen/core/Dict.h>
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "worker/data/batch.h"
#include "worker/features/feature_set.h"
#include "worker/models/network.h"

namespace anneal::exporting {

using Tensors = c10::Dict<std::string, at::Tensor>;

class ExportedModel {
 public:
  virtual ~ExportedModel() = default;

  /// Input dictionary -> outputs by name (parity/export.md 4). Thread safe. Call it without gradients.
  virtual Tensors Run(const Tensors& data) const = 0;

  /// What Run takes for the rows of a batch.
  Tensors Inputs(const data::Batch& batch, const features::FeatureSet& features) const;
  /// Outputs of a batch, sorted by name.
  models::Predictions Predict(const data::Batch& batch, const features::FeatureSet& features) const;

  bool tiled = false;  ///< INPUT_TILE: takes `batch_size`
};

/// Loads what lies in the folder: scripted_model.pt (with dense_meta.json: and the tables of a distributed export); or
/// scripted_sparse_model.pt and aoti/aoti_model.pt2; or aoti/aoti_model.pt2 alone. `runners`: how many threads are to
/// run it at once. Throws ConfigError when there is none of these, or it cannot be loaded.
std::unique_ptr<ExportedModel> OpenExport(const std::string& folder, int runners = 1);

/// The sparse part alone: input dictionary -> boundary tensors.
std::unique_ptr<ExportedModel> OpenSparsePart(const std::string& folder);

/// "<key>" of the folder's model_acc.json; empty when it is not there.
std::string AccelerationOf(const std::string& folder, const std::string& key);

}  // namespace anneal::exporting
