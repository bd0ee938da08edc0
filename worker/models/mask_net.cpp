#include "worker/models/mask_net.h"

namespace anneal::models {

MaskNetModel::MaskNetModel(const ModelInput& input) {
  const Group& group = input.FirstGroup();
  group_ = group.name;
  heads_ = {input.SingleHead()};
  mask_net_ = std::make_unique<nn::MaskNet>(group.width, input.config.mask_net().mask_net_module());
  RegisterModule("mask_net_layer", *mask_net_);
  output_ = std::make_unique<nn::Linear>(mask_net_->output_dim(), heads_.front().num_class, /*bias=*/false);
  RegisterModule("output_linear", *output_);
}

std::vector<at::Tensor> MaskNetModel::Forward(const Groups& groups) {
  return {output_->Forward(mask_net_->Forward(groups.at(group_)))};
}

}  // namespace anneal::models
