#include "worker/optim/grad_scaler.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "worker/config/error.h"
#include "worker/config/shortest_decimal.h"
#include "worker/train/progress/log.h"

namespace anneal::optim {

constexpr float kSmallestScale = std::numeric_limits<float>::min();  // its inverse is finite
constexpr int kManyOverflows = 50;

GradScaler::GradScaler(const tzrec::protos::GradScaler& config)
    : scale_(config.init_scale()),
      growth_factor_(config::ShortestDecimal(config.growth_factor())),
      backoff_factor_(config::ShortestDecimal(config.backoff_factor())),
      growth_interval_(static_cast<int>(config.growth_interval())) {
  const std::string where = "train_config.grad_scaler.";
  if (!(scale_ >= kSmallestScale) || !std::isfinite(scale_))
    throw ConfigError(where + "init_scale must be from 1.2e-38 to 3.4e38");
  if (!(growth_factor_ > 1)) throw ConfigError(where + "growth_factor must be more than 1");
  if (!(backoff_factor_ > 0 && backoff_factor_ < 1)) {
    throw ConfigError(where + "backoff_factor must be more than 0 and less than 1");
  }
  if (growth_interval_ < 1) throw ConfigError(where + "growth_interval must be at least 1");
}

bool GradScaler::Unscale(const std::vector<nn::NamedTensor>& parameters) const {
  const c10::AutoGradMode no_grad(false);
  std::vector<at::Tensor> finite;  // asked all together: a device is waited for once
  for (const auto& parameter : parameters) {
    at::Tensor gradient = parameter.tensor.grad();
    if (!gradient.defined()) continue;
    finite.push_back(at::isfinite(gradient).all());
    gradient.mul_(inverse_scale());
  }
  return !finite.empty() && !at::stack(finite).all().item<bool>();
}

void GradScaler::Update(bool found_inf) {
  if (found_inf) {
    // torch's may reach 0, by which the next good gradients are divided.
    scale_ = std::max(static_cast<float>(scale_ * backoff_factor_), kSmallestScale);
    growth_tracker_ = 0;
    if (++overflows_ % kManyOverflows == 0) {
      LogWarning("train_config.grad_scaler: " + std::to_string(overflows_) +
                 " updates in a row had gradients that are not finite and were left out; the scale is " +
                 std::to_string(scale_));
    }
    return;
  }
  overflows_ = 0;
  if (++growth_tracker_ < growth_interval_) return;
  const float grown = static_cast<float>(scale_ * growth_factor_);
  if (std::isfinite(grown)) scale_ = grown;
  growth_tracker_ = 0;
}

void GradScaler::Restore(float scale, int growth_tracker) {
  scale_ = std::max(scale, kSmallestScale);
  growth_tracker_ = growth_tracker;
}

bool AllFinite(const at::Tensor& tensor) { return at::isfinite(tensor).all().item<bool>(); }

}  // namespace anneal::optim
