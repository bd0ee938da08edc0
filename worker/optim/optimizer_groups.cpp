#include "worker/optim/optimizer_groups.h"

#include "worker/config/error.h"
#include "worker/config/name_pattern.h"

namespace anneal::optim {

std::vector<int> AssignParts(const tzrec::protos::DenseOptimizer& config, const std::vector<std::string>& names) {
  std::vector<config::NamePattern> patterns;
  for (int i = 0; i < config.part_optimizers_size(); ++i) {
    patterns.emplace_back(config.part_optimizers(i).regex_pattern());
    if (!patterns.back().error().empty()) {
      throw ConfigError("train_config.dense_optimizer.part_optimizers[" + std::to_string(i) +
                        "].regex_pattern: " + patterns.back().error());
    }
  }
  std::vector<int> parts;
  for (const std::string& name : names) {
    int part = -1;
    for (size_t i = 0; part < 0 && i < patterns.size(); ++i) {
      if (patterns[i].Matches(name)) part = static_cast<int>(i);
    }
    parts.push_back(part);
  }
  return parts;
}

OptimizerGroups::OptimizerGroups(const tzrec::protos::DenseOptimizer& config,
                                 const std::vector<nn::NamedTensor>& parameters)
    : parameters_(parameters) {
  std::vector<std::string> names;
  for (const auto& parameter : parameters) names.push_back(parameter.name);
  const std::vector<int> parts = AssignParts(config, names);
  const std::string where = "train_config.dense_optimizer";
  for (int part = -1; part < config.part_optimizers_size(); ++part) {
    std::vector<nn::NamedTensor> mine;
    for (size_t i = 0; i < parameters.size(); ++i) {
      if (parts[i] == part) mine.push_back(parameters[i]);
    }
    if (part < 0) {
      if (mine.empty()) throw ConfigError(where + ".part_optimizers leave the dense optimizer no parameter");
      auto optimizer = MakeDenseOptimizer(config, std::move(mine));
      Schedule schedule = MakeSchedule(config, optimizer->base_learning_rate());
      groups_.push_back({std::move(optimizer), std::move(schedule), part});
      continue;
    }
    if (mine.empty()) continue;
    const auto& entry = config.part_optimizers(part);
    const std::string field = where + ".part_optimizers[" + std::to_string(part) + "]";
    auto optimizer = MakeDenseOptimizer(entry, std::move(mine), field);
    const double base = optimizer->base_learning_rate();
    const bool own = entry.learning_rate_case() != tzrec::protos::PartOptimizer::LEARNING_RATE_NOT_SET;
    Schedule schedule = own ? MakeSchedule(entry, base, field) : MakeSchedule(config, base);
    groups_.push_back({std::move(optimizer), std::move(schedule), part});
  }
}

void OptimizerGroups::Step(const std::vector<double>& rates) {
  for (size_t i = 0; i < groups_.size(); ++i) groups_[i].optimizer->Step(rates.at(i));
}

std::vector<nn::NamedTensor> OptimizerGroups::State() {
  std::vector<nn::NamedTensor> all;
  for (auto& group : groups_) {
    for (auto& entry : group.optimizer->State()) all.push_back(std::move(entry));
  }
  return all;
}

void OptimizerGroups::ZeroGradients() {
  for (auto& parameter : parameters_) parameter.tensor.mutable_grad().reset();
}

}  // namespace anneal::optim
