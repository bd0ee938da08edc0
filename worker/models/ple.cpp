#include "worker/models/ple.h"

namespace anneal::models {

Ple::Ple(const ModelInput& input) : tasks_(input.config.ple().task_towers_size()) {
  const auto& config = input.config.ple();
  const Group& group = input.FirstGroup();
  group_ = group.name;
  int64_t width = group.width;
  for (int k = 0; k < config.extraction_networks_size(); ++k) {
    const bool last = k + 1 == config.extraction_networks_size();
    nets_.push_back(std::make_unique<nn::ExtractionNet>(config.extraction_networks(k), tasks_, width, last));
    RegisterModule("_extraction_nets." + std::to_string(k), *nets_.back());
    width = nets_.back()->output_dim();
  }
  AddTowers(config.task_towers(), width, input);
}

std::vector<at::Tensor> Ple::Forward(const Groups& groups) {
  const at::Tensor& x = groups.at(group_);
  nn::ExtractionNet::Vectors vectors{std::vector<at::Tensor>(tasks_, x), x};
  for (auto& net : nets_) vectors = net->Forward(vectors);
  return Towers(vectors.tasks);
}

}  // namespace anneal::models
