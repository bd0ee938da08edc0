#include "worker/models/deepfm.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "worker/config/error.h"
#include "worker/nn/factorization_machine.h"

namespace anneal::models {

DeepFm::DeepFm(const ModelInput& input) {
  const auto& config = input.config.deepfm();
  input.RequireGroup("wide");
  const Group& deep = input.RequireGroup("deep");
  const Group& fm = input.plan.FindGroup("fm") ? input.RequireGroup("fm") : deep;
  fm_group_ = fm.name;
  fm_fields_ = static_cast<int64_t>(fm.feature_dims.size());
  fm_dim_ = fm.feature_dims.front();
  for (size_t i = 0; i < fm.features.size(); ++i) {
    if (fm.feature_dims[i] != fm_dim_) {
      throw ConfigError("model_config.deepfm: feature '" + fm.features[i] + "' of group '" + fm.name + "' is " +
                        std::to_string(fm.feature_dims[i]) + " wide, '" + fm.features.front() + "' " +
                        std::to_string(fm_dim_) + ": a factorization machine needs one width");
    }
  }
  heads_ = {input.SingleHead()};
  const int num_class = heads_.front().num_class;
  deep_ = std::make_unique<nn::Mlp>(deep.width, config.deep());
  RegisterModule("deep_mlp", *deep_);
  int64_t output_in = deep_->output_dim();
  if (config.has_final()) {
    final_ = std::make_unique<nn::Mlp>(1 + fm_dim_ + deep_->output_dim(), config.final());
    RegisterModule("final_mlp", *final_);
    output_in = final_->output_dim();
  }
  output_ = std::make_unique<nn::Linear>(output_in, num_class);
  RegisterModule("output_mlp", *output_);
}

std::vector<at::Tensor> DeepFm::Forward(const Groups& groups) {
  const at::Tensor wide = groups.at("wide").sum(1, /*keepdim=*/true);
  const at::Tensor fm = nn::FactorizationMachine(groups.at(fm_group_), fm_fields_, fm_dim_);
  const at::Tensor deep = deep_->Forward(groups.at("deep"));
  if (final_) return {output_->Forward(final_->Forward(at::cat({wide, fm, deep}, 1)))};
  return {wide + fm.sum(1, /*keepdim=*/true) + output_->Forward(deep)};
}

}  // namespace anneal::models
