// An exported model, loaded as anybody would load it: LibTorch and the file, nothing else.
#pragma once

#include <memory>
#include <string>

#include "worker/data/batch.h"
#include "worker/features/feature_set.h"
#include "worker/models/network.h"

namespace anneal::exporting {

class ScriptedModel {
 public:
  /// Loads <folder>/scripted_model.pt. Throws ConfigError when it is not there or no TorchScript.
  explicit ScriptedModel(const std::string& folder);
  ~ScriptedModel();

  /// Outputs sorted by name. Thread safe.
  models::Predictions Predict(const data::Batch& batch, const features::FeatureSet& features) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace anneal::exporting
