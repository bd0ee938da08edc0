#include "worker/models/dlrm.h"

#include <ATen/ATen.h>

#include "worker/nn/interaction.h"

namespace anneal::models {

Dlrm::Dlrm(const ModelInput& input)
    : input_(input, input.config.dlrm().has_dense_mlp() ? &input.config.dlrm().dense_mlp() : nullptr, "dlrm"),
      copied_fields_(input.config.dlrm().arch_with_sparse() ? input_.fields() : input_.dense_fields()) {
  heads_ = {input.SingleHead()};
  if (input_.dense_mlp()) RegisterModule("dense_mlp", *input_.dense_mlp());
  const int64_t pairs = input_.fields() * (input_.fields() - 1) / 2;
  final_ = std::make_unique<nn::Mlp>(pairs + copied_fields_ * input_.dim(), input.config.dlrm().final());
  RegisterModule("final_mlp", *final_);
  output_ = std::make_unique<nn::Linear>(final_->output_dim(), heads_.front().num_class);
  RegisterModule("output_mlp", *output_);
}

std::vector<at::Tensor> Dlrm::Forward(const Groups& groups) {
  const at::Tensor fields = input_.Fields(groups);
  const at::Tensor dots = nn::PairwiseDots(fields, input_.fields(), input_.dim());
  const at::Tensor x = at::cat({dots, fields.narrow(1, 0, copied_fields_ * input_.dim())}, 1);
  return {output_->Forward(final_->Forward(x))};
}

}  // namespace anneal::models
