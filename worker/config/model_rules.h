// Which parts a model needs, and which widths have to agree (parity/models.md 4, 9, 10).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "tzrec/model.pb.h"

namespace anneal::config {

/// What the rules of all models are made of.
struct ModelChecks {
  std::function<void(const std::string& path, const std::string& message)> fail;
  std::function<void(const tzrec::protos::MLP& mlp, const std::string& path)> mlp;
  /// Losses and metrics of model_config itself.
  std::function<void()> single_head;
  /// `path` is the model's, "model_config.ple".
  std::function<void(const google::protobuf::RepeatedPtrField<tzrec::protos::TaskTower>& towers,
                     const std::string& path)>
      task_towers;
  /// Columns of a feature in a DEEP group; 0 when that is not known.
  std::function<int64_t(const std::string& feature)> width;
};

/// The rules of the model that is set, if it is one of wide_and_deep, dlrm, dcn_v1, dcn_v2, xdeepfm, wukong, ple,
/// pepnet.
void CheckModel(const tzrec::protos::ModelConfig& model, const ModelChecks& checks);

}  // namespace anneal::config
