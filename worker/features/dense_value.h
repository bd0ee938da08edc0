// One value of a dense feature: value_dim numbers, read from a number, a text or a list.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "worker/features/arrow_column.h"
#include "worker/features/bad_value.h"
#include "worker/features/formulas/normalizer.h"

namespace anneal::features {

/// How such a value is read. What cannot be read is thrown as a Refusal.
class DenseValue {
 public:
  int64_t dim = 1;                 ///< value_dim
  std::string separator = "\x1d";  ///< of several numbers in one string
  bool first_only = false;         ///< only the first `dim` numbers are read; otherwise more are an error
  Normalizer normalizer;
  std::vector<float> defaults;  ///< [dim], or empty: there are none. The normalizer does not touch them

  /// Sets the defaults: `text` is one number for all components, or `dim` of them; normalized only when `normalize`.
  /// Throws ConfigError naming `feature`.
  void SetDefaults(const std::string& text, const std::string& feature, bool normalize = false);

  /// Write to out[0, dim).
  void WriteDefaults(float* out) const { std::copy(defaults.begin(), defaults.end(), out); }
  void Read(std::string_view text, float* out) const;
  template <typename Cells>
  void ReadList(const Cells& numbers, const Validity& valid, CellRange range, float* out) const;

 private:
  void CheckCount(int64_t count) const;
};

/// Of a number in text.
float ParseFloat(std::string_view text);

/// Whether a cell of that type is a number or a text.
bool IsNumberOrText(const arrow::DataType& type);

template <typename Cells>
void DenseValue::ReadList(const Cells& numbers, const Validity& valid, CellRange range, float* out) const {
  const int64_t count = first_only ? std::min(range.size(), dim) : range.size();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = range.begin + i;
    if (!valid[at]) throw Refusal{"has a null in the list"};
    float number = 0;
    if constexpr (std::is_same_v<typename Cells::Value, std::string_view>) {
      number = ParseFloat(numbers[at]);
    } else {
      number = static_cast<float>(numbers[at]);
    }
    if (i < dim) out[i] = normalizer(number);
  }
  CheckCount(count);
}

}  // namespace anneal::features
