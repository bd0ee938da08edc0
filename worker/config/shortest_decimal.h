// How a float of a config becomes a double.
#pragma once

#include <charconv>

namespace anneal::config {

/// The shortest decimal that reads back as this float, as a double: TorchEasyRec hands float fields to constructors
/// through a JSON-style conversion (parity/protos.md), so 0.002f arrives as exactly 0.002.
inline double ShortestDecimal(float value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  double decimal = 0;
  std::from_chars(text, end, decimal);
  return decimal;
}

}  // namespace anneal::config
