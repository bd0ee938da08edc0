// What DLRM and WuKong read: fields of one width (parity/models.md 9).
#pragma once

#include <memory>
#include <string>

#include "worker/models/model.h"
#include "worker/nn/mlp.h"

namespace anneal::models {

/// dense_mlp(group `dense`), when there is that group, then the features of group `sparse`. A single feature group is
/// the sparse one whatever its name.
class DenseSparseFields {
 public:
  /// `model` is the name of its field in model_config, for messages. Throws ConfigError when the widths differ, for a
  /// missing part and for a sequence encoder in one of the groups.
  DenseSparseFields(const ModelInput& input, const tzrec::protos::MLP* dense_mlp, const std::string& model);

  /// All fields side by side, [B, fields()*dim()].
  at::Tensor Fields(const Groups& groups);

  /// Null without a dense group.
  nn::Mlp* dense_mlp() const { return dense_mlp_.get(); }
  int64_t dense_fields() const { return dense_mlp_ ? 1 : 0; }
  int64_t fields() const { return dense_fields() + sparse_fields_; }
  int64_t dim() const { return dim_; }

 private:
  std::string sparse_group_;
  std::unique_ptr<nn::Mlp> dense_mlp_;
  int64_t sparse_fields_ = 0, dim_ = 0;
};

}  // namespace anneal::models
