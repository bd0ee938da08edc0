#include "worker/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "worker/config/error.h"
#include "worker/config/shortest_decimal.h"

namespace anneal::optim {
namespace {

using namespace tzrec::protos;  // NOLINT: the schedule messages

/// Linear ramp from `start` at k = 0 to `base` at k = size.
struct WarmUp {
  double start = 0;
  int64_t size = 0;

  template <typename Config>
  static WarmUp Of(const Config& config) {
    return {config::ShortestDecimal(config.warmup_learning_rate()), static_cast<int64_t>(config.warmup_size())};
  }
  bool Covers(int64_t k) const { return k < size; }
  double Rate(double base, int64_t k) const {
    return start + (base - start) * static_cast<double>(k) / static_cast<double>(size);
  }
};

double Cosine(double base, double floor, double t, double period) {
  return floor + (base - floor) * 0.5 * (1 + std::cos(std::numbers::pi * t / period));
}

Schedule Make(const ExponentialDecayLR& config, double base, const std::string& where) {
  if (config.decay_size() == 0) throw ConfigError(where + ".exponential_decay_learning_rate.decay_size must be given");
  const auto warm_up = WarmUp::Of(config);
  const double factor = config::ShortestDecimal(config.decay_factor()),
               floor = config::ShortestDecimal(config.min_learning_rate());
  const double size = config.decay_size();
  const bool staircase = config.staircase();
  return {[=](int64_t k) {
            if (warm_up.Covers(k)) return warm_up.Rate(base, k);
            double periods = static_cast<double>(k - warm_up.size) / size;
            if (staircase) periods = std::floor(periods);
            return std::max(base * std::pow(factor, periods), floor);
          },
          config.by_epoch()};
}

Schedule Make(const ManualStepLR& config, double base, const std::string& where) {
  const std::vector<int64_t> boundaries(config.schedule_sizes().begin(), config.schedule_sizes().end());
  std::vector<double> rates;
  for (const float rate : config.learning_rates()) rates.push_back(config::ShortestDecimal(rate));
  const std::string field = where + ".manual_step_learning_rate";
  if (boundaries.empty() || rates.size() != boundaries.size()) {
    throw ConfigError(field + ": schedule_sizes and learning_rates need the same number of values, at least one");
  }
  if (!std::is_sorted(boundaries.begin(), boundaries.end())) throw ConfigError(field + ".schedule_sizes must ascend");
  const bool warm_up = config.warmup();
  if (warm_up && boundaries.front() == 0)
    throw ConfigError(field + ".schedule_sizes: a warm-up needs a first size > 0");
  return {[=](int64_t k) {
            const auto passed = std::lower_bound(boundaries.begin(), boundaries.end(), k) - boundaries.begin();
            if (passed > 0) return rates[passed - 1];
            if (!warm_up) return base;
            return base + (rates[0] - base) * static_cast<double>(k) / static_cast<double>(boundaries[0]);
          },
          config.by_epoch()};
}

Schedule Make(const CosineAnnealingLR& config, double base, const std::string& where) {
  if (config.t_max() == 0) throw ConfigError(where + ".cosine_annealing_learning_rate: T_max must be positive");
  const auto warm_up = WarmUp::Of(config);
  const double floor = config::ShortestDecimal(config.min_learning_rate());
  const int64_t period = config.t_max();
  return {[=](int64_t k) {
            if (warm_up.Covers(k)) return warm_up.Rate(base, k);
            return Cosine(base, floor, static_cast<double>(std::min(k - warm_up.size, period)),
                          static_cast<double>(period));
          },
          config.by_epoch()};
}

Schedule Make(const CosineAnnealingWarmRestartsLR& config, double base, const std::string& where) {
  const std::string field = where + ".cosine_annealing_warm_restarts_learning_rate";
  if (config.t_0() == 0) throw ConfigError(field + ": T_0 must be positive");
  if (config.t_mult() == 0) throw ConfigError(field + ": T_mult must be at least 1");
  const auto warm_up = WarmUp::Of(config);
  const double floor = config::ShortestDecimal(config.min_learning_rate());
  const int64_t first = config.t_0(), growth = config.t_mult();
  return {[=](int64_t k) {
            if (warm_up.Covers(k)) return warm_up.Rate(base, k);
            int64_t t = k - warm_up.size, period = first;
            if (growth == 1) {
              t %= first;
            } else {
              while (t >= period) t -= period, period *= growth;
            }
            return Cosine(base, floor, static_cast<double>(t), static_cast<double>(period));
          },
          config.by_epoch()};
}

template <typename Optimizer>
Schedule MakeFor(const Optimizer& config, double base, const std::string& where) {
  Schedule schedule;
  switch (config.learning_rate_case()) {
    case Optimizer::kConstantLearningRate:
      schedule.rate = [base](int64_t) { return base; };
      break;
    case Optimizer::kExponentialDecayLearningRate:
      schedule = Make(config.exponential_decay_learning_rate(), base, where);
      break;
    case Optimizer::kManualStepLearningRate:
      schedule = Make(config.manual_step_learning_rate(), base, where);
      break;
    case Optimizer::kCosineAnnealingLearningRate:
      schedule = Make(config.cosine_annealing_learning_rate(), base, where);
      break;
    case Optimizer::kCosineAnnealingWarmRestartsLearningRate:
      schedule = Make(config.cosine_annealing_warm_restarts_learning_rate(), base, where);
      break;
    default:
      throw ConfigError(where + ": no learning_rate is set");
  }
  if (base == 0) schedule.rate = [](int64_t) { return 0.0; };
  return schedule;
}

}  // namespace

Schedule MakeSchedule(const SparseOptimizer& config, double base) {
  return MakeFor(config, base, "train_config.sparse_optimizer");
}

Schedule MakeSchedule(const DenseOptimizer& config, double base) {
  return MakeFor(config, base, "train_config.dense_optimizer");
}

Schedule MakeSchedule(const PartOptimizer& config, double base, const std::string& where) {
  return MakeFor(config, base, where);
}

}  // namespace anneal::optim
