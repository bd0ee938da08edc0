#include "worker/models/xdeepfm.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"

namespace anneal::models {

XDeepFm::XDeepFm(const ModelInput& input) {
  const auto& config = input.config.xdeepfm();
  const Group& wide = input.RequireGroup("wide");
  if (wide.type != tzrec::protos::WIDE) throw ConfigError("model_config.xdeepfm: the group 'wide' has to be WIDE");
  if (config.cin().cin_layer_size().empty()) throw ConfigError("model_config.xdeepfm.cin: cin_layer_size is empty");
  heads_ = {input.SingleHead()};
  deep_ = std::make_unique<nn::Mlp>(input.RequireGroup("deep").width, config.deep());
  RegisterModule("deep", *deep_);
  cin_ = std::make_unique<nn::Cin>(
      static_cast<int64_t>(wide.features.size()), wide.feature_dims.front(),
      std::vector<int64_t>(config.cin().cin_layer_size().begin(), config.cin().cin_layer_size().end()));
  RegisterModule("cin", *cin_);
  final_ = std::make_unique<nn::Mlp>(cin_->output_dim() + deep_->output_dim(), config.final());
  RegisterModule("final", *final_);
  output_ = std::make_unique<nn::Linear>(final_->output_dim(), heads_.front().num_class);
  RegisterModule("output_mlp", *output_);
}

std::vector<at::Tensor> XDeepFm::Forward(const Groups& groups) {
  const at::Tensor cin = cin_->Forward(groups.at("wide")), deep = deep_->Forward(groups.at("deep"));
  return {output_->Forward(final_->Forward(at::cat({cin, deep}, 1)))};
}

}  // namespace anneal::models
