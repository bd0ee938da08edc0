#include "worker/models/dcn.h"

#include <ATen/ATen.h>

namespace anneal::models {

DcnV1::DcnV1(const ModelInput& input) {
  const auto& config = input.config.dcn_v1();
  const Group& group = input.FirstGroup();
  group_ = group.name;
  heads_ = {input.SingleHead()};
  cross_ = std::make_unique<nn::Cross>(group.width, static_cast<int>(config.cross().cross_num()));
  RegisterModule("cross", *cross_);
  deep_ = std::make_unique<nn::Mlp>(group.width, config.deep());
  RegisterModule("deep", *deep_);
  final_ = std::make_unique<nn::Mlp>(group.width + deep_->output_dim(), config.final());
  RegisterModule("final_dnn", *final_);
  output_ = std::make_unique<nn::Linear>(final_->output_dim(), heads_.front().num_class, /*bias=*/false);
  RegisterModule("output_linear", *output_);
}

std::vector<at::Tensor> DcnV1::Forward(const Groups& groups) {
  const at::Tensor& x = groups.at(group_);
  return {output_->Forward(final_->Forward(at::cat({cross_->Forward(x), deep_->Forward(x)}, 1)))};
}

DcnV2::DcnV2(const ModelInput& input) {
  const auto& config = input.config.dcn_v2();
  const Group& group = input.FirstGroup();
  group_ = group.name;
  heads_ = {input.SingleHead()};
  int64_t width = group.width;
  if (config.has_backbone()) {
    backbone_ = std::make_unique<nn::Mlp>(width, config.backbone());
    RegisterModule("backbone", *backbone_);
    width = backbone_->output_dim();
  }
  cross_ =
      std::make_unique<nn::CrossV2>(width, static_cast<int>(config.cross().cross_num()), config.cross().low_rank());
  RegisterModule("cross", *cross_);
  if (config.has_deep()) {
    deep_ = std::make_unique<nn::Mlp>(group.width, config.deep());
    RegisterModule("deep", *deep_);
    width += deep_->output_dim();
  }
  final_ = std::make_unique<nn::Mlp>(width, config.final());
  RegisterModule("final", *final_);
  output_ = std::make_unique<nn::Linear>(final_->output_dim(), heads_.front().num_class, /*bias=*/false);
  RegisterModule("output_mlp", *output_);
}

std::vector<at::Tensor> DcnV2::Forward(const Groups& groups) {
  const at::Tensor& x = groups.at(group_);
  at::Tensor h = cross_->Forward(backbone_ ? backbone_->Forward(x) : x);
  if (deep_) h = at::cat({h, deep_->Forward(x)}, 1);
  return {output_->Forward(final_->Forward(h))};
}

}  // namespace anneal::models
