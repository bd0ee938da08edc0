#include "worker/features/dense_value.h"

#include <arrow/type.h>

#include "worker/config/error.h"
#include "worker/features/number_text.h"

namespace anneal::features {

float ParseFloat(std::string_view text) {
  float value = 0;
  if (!ParseNumber(text, &value)) throw Refusal{Shown(text) + " is not a number"};
  return value;
}

bool IsNumberOrText(const arrow::DataType& type) {
  switch (type.id()) {
    case arrow::Type::STRING:
    case arrow::Type::INT32:
    case arrow::Type::INT64:
    case arrow::Type::FLOAT:
    case arrow::Type::DOUBLE:
      return true;
    default:
      return false;
  }
}

void DenseValue::SetDefaults(const std::string& text, const std::string& feature, bool normalize) {
  defaults.clear();
  SplitText(text, separator, [&](std::string_view part) {
    float value = 0;
    if (!ParseNumber(part, &value)) {
      throw ConfigError("feature " + feature + ": default value " + Shown(text) + " is not a number");
    }
    defaults.push_back(normalize ? normalizer(value) : value);
    return true;
  });
  if (defaults.size() == 1) defaults.resize(dim, defaults[0]);
  if (static_cast<int64_t>(defaults.size()) != dim) {
    throw ConfigError("feature " + feature + ": default value " + Shown(text) + " has " +
                      std::to_string(defaults.size()) + " values where value_dim is " + std::to_string(dim));
  }
}

void DenseValue::Read(std::string_view text, float* out) const {
  int64_t count = 0;
  SplitText(text, separator, [&](std::string_view part) {
    const float number = ParseFloat(part);
    if (count < dim) out[count] = normalizer(number);
    ++count;
    return !first_only || count < dim;
  });
  CheckCount(count);
}

void DenseValue::CheckCount(int64_t count) const {
  if (count == dim) return;
  throw Refusal{"has " + std::to_string(count) + " values where value_dim is " + std::to_string(dim)};
}

}  // namespace anneal::features
