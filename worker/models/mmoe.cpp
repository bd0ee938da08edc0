#include "worker/models/mmoe.h"

namespace anneal::models {

MmoeModel::MmoeModel(const ModelInput& input) {
  const auto& config = input.config.mmoe();
  const Group& group = input.FirstGroup();
  group_ = group.name;
  mmoe_ = std::make_unique<nn::Mmoe>(group.width, config.expert_mlp(), static_cast<int>(config.num_expert()),
                                     config.task_towers_size(), config.has_gate_mlp() ? &config.gate_mlp() : nullptr);
  RegisterModule("mmoe", *mmoe_);
  AddTowers(config.task_towers(), mmoe_->output_dim(), input);
}

std::vector<at::Tensor> MmoeModel::Forward(const Groups& groups) { return Towers(mmoe_->Forward(groups.at(group_))); }

}  // namespace anneal::models
