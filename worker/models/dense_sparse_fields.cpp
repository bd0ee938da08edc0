#include "worker/models/dense_sparse_fields.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"

namespace anneal::models {

DenseSparseFields::DenseSparseFields(const ModelInput& input, const tzrec::protos::MLP* dense_mlp,
                                     const std::string& model) {
  const std::string where = "model_config." + model;
  const bool one = input.config.feature_groups_size() == 1;
  const Group& sparse = one ? input.FirstGroup() : input.RequireGroup("sparse");
  const Group* dense = one ? nullptr : input.plan.FindGroup("dense");
  for (const Group* group : {&sparse, dense}) {
    if (group && !group->encoders.empty())
      throw ConfigError(where + ": group '" + group->name + "' must not have sequence features");
  }
  sparse_group_ = sparse.name;
  sparse_fields_ = static_cast<int64_t>(sparse.features.size());
  dim_ = sparse.feature_dims.front();
  for (size_t i = 0; i < sparse.features.size(); ++i) {
    if (sparse.feature_dims[i] != dim_) {
      throw ConfigError(where + ": feature '" + sparse.features[i] + "' of group '" + sparse.name + "' is " +
                        std::to_string(sparse.feature_dims[i]) + " wide, '" + sparse.features.front() + "' " +
                        std::to_string(dim_) + ": they need one width");
    }
  }
  if (!dense) return;
  if (!dense_mlp) throw ConfigError(where + ": the feature group 'dense' needs dense_mlp");
  dense_mlp_ = std::make_unique<nn::Mlp>(dense->width, *dense_mlp);
  if (dense_mlp_->output_dim() != dim_) {
    throw ConfigError(where + ".dense_mlp: the last of hidden_units is " + std::to_string(dense_mlp_->output_dim()) +
                      ", the features of group '" + sparse.name + "' are " + std::to_string(dim_) + " wide");
  }
}

at::Tensor DenseSparseFields::Fields(const Groups& groups) {
  const at::Tensor& sparse = groups.at(sparse_group_);
  return dense_mlp_ ? at::cat({dense_mlp_->Forward(groups.at("dense")), sparse}, 1) : sparse;
}

}  // namespace anneal::models
