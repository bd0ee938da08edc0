// Mixed precision: LibTorch's autocast around a forward pass and its losses (parity/train.md 8).
#pragma once

#include <c10/core/DeviceType.h>
#include <c10/core/ScalarType.h>

#include <optional>
#include <string>

namespace anneal::nn {

/// "BF16", "FP16" or empty (none), case-sensitive; throws ConfigError naming `where` for anything else.
std::optional<c10::ScalarType> MixedPrecisionType(const std::string& name, const std::string& where);

/// While it lives, eligible operators of the device compute in `type`; nothing happens without a type. Parameters stay
/// float32.
class Autocast {
 public:
  Autocast(std::optional<c10::ScalarType> type, at::DeviceType device);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  const at::DeviceType device_;
  bool active_ = false, before_ = false;
  c10::ScalarType type_before_ = c10::ScalarType::BFloat16;
};

/// Operators of the device compute in float32 while it lives.
class NoAutocast {
 public:
  explicit NoAutocast(at::DeviceType device);
  ~NoAutocast();
  NoAutocast(const NoAutocast&) = delete;
  NoAutocast& operator=(const NoAutocast&) = delete;

 private:
  const at::DeviceType device_;
  const bool before_;
};

}  // namespace anneal::nn
