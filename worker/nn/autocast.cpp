#include "worker/nn/autocast.h"

#include <ATen/autocast_mode.h>

#include "worker/config/error.h"

namespace anneal::nn {

std::optional<c10::ScalarType> MixedPrecisionType(const std::string& name, const std::string& where) {
  if (name.empty()) return std::nullopt;
  if (name == "BF16") return c10::ScalarType::BFloat16;
  if (name == "FP16") return c10::ScalarType::Half;
  throw ConfigError(where + ": '" + name + "' is not BF16 or FP16");
}

Autocast::Autocast(std::optional<c10::ScalarType> type, at::DeviceType device)
    : device_(device), active_(type.has_value()) {
  if (!active_) return;
  before_ = at::autocast::is_autocast_enabled(device_);
  type_before_ = at::autocast::get_autocast_dtype(device_);
  at::autocast::set_autocast_enabled(device_, true);
  at::autocast::set_autocast_dtype(device_, *type);
  at::autocast::increment_nesting();
}

Autocast::~Autocast() {
  if (!active_) return;
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(device_, before_);
  at::autocast::set_autocast_dtype(device_, type_before_);
}

NoAutocast::NoAutocast(at::DeviceType device) : device_(device), before_(at::autocast::is_autocast_enabled(device)) {
  at::autocast::set_autocast_enabled(device_, false);
}

NoAutocast::~NoAutocast() { at::autocast::set_autocast_enabled(device_, before_); }

}  // namespace anneal::nn
