#include "worker/train/learning_rates.h"

namespace anneal::train {

LearningRates::LearningRates(optim::Schedule sparse, const optim::OptimizerGroups& groups)
    : sparse_(std::move(sparse)), groups_(groups) {}

Rates LearningRates::Current() const {
  const auto at = [this](const optim::Schedule& schedule) {
    return schedule.rate(schedule.by_epoch ? passes_ : steps_);
  };
  Rates rates{at(sparse_), {}};
  for (const auto& group : groups_.groups()) rates.dense.push_back(at(group.schedule));
  return rates;
}

void LearningRates::Restore(int64_t steps, int64_t passes) {
  steps_ = steps;
  passes_ = passes;
}

}  // namespace anneal::train
