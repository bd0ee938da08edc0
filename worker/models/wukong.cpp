#include "worker/models/wukong.h"

#include <ATen/ATen.h>

namespace anneal::models {

WuKong::WuKong(const ModelInput& input)
    : input_(input, input.config.wukong().has_dense_mlp() ? &input.config.wukong().dense_mlp() : nullptr, "wukong") {
  const auto& config = input.config.wukong();
  heads_ = {input.SingleHead()};
  if (input_.dense_mlp()) RegisterModule("dense_mlp", *input_.dense_mlp());
  int64_t fields = input_.fields();
  for (int i = 0; i < config.wukong_layers_size(); ++i) {
    layers_.push_back(std::make_unique<nn::WuKongLayer>(fields, input_.dim(), config.wukong_layers(i)));
    RegisterModule("_wukong_layers." + std::to_string(i), *layers_.back());
    fields = layers_.back()->output_fields();
  }
  final_ = std::make_unique<nn::Mlp>(fields * input_.dim(), config.final());
  RegisterModule("final_mlp", *final_);
  output_ = std::make_unique<nn::Linear>(final_->output_dim(), heads_.front().num_class);
  RegisterModule("output_mlp", *output_);
}

std::vector<at::Tensor> WuKong::Forward(const Groups& groups) {
  at::Tensor x = input_.Fields(groups).reshape({-1, input_.fields(), input_.dim()});
  for (auto& layer : layers_) x = layer->Forward(x);
  return {output_->Forward(final_->Forward(x.flatten(1)))};
}

}  // namespace anneal::models
