#include "worker/models/wide_and_deep.h"

#include <ATen/ATen.h>

namespace anneal::models {

WideAndDeep::WideAndDeep(const ModelInput& input) {
  const auto& config = input.config.wide_and_deep();
  input.RequireGroup("wide");
  heads_ = {input.SingleHead()};
  deep_ = std::make_unique<nn::Mlp>(input.RequireGroup("deep").width, config.deep());
  RegisterModule("deep_mlp", *deep_);
  int64_t output_in = deep_->output_dim();
  if (config.has_final()) {
    final_ = std::make_unique<nn::Mlp>(1 + output_in, config.final());
    RegisterModule("final_mlp", *final_);
    output_in = final_->output_dim();
  }
  output_ = std::make_unique<nn::Linear>(output_in, heads_.front().num_class);
  RegisterModule("output_mlp", *output_);
}

std::vector<at::Tensor> WideAndDeep::Forward(const Groups& groups) {
  const at::Tensor wide = groups.at("wide").sum(1, /*keepdim=*/true);
  const at::Tensor deep = deep_->Forward(groups.at("deep"));
  if (final_) return {output_->Forward(final_->Forward(at::cat({wide, deep}, 1)))};
  return {wide + output_->Forward(deep)};
}

}  // namespace anneal::models
