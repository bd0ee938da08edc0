// Initial values of embedding tables from a config's init_fn text.
#pragma once

#include <cstdint>
#include <string>

namespace anneal::embedding {

/// "nn.init.uniform_,a=-0.01,b=0.01" taken apart (parity/models.md 13). Known functions: uniform_, normal_, constant_,
/// zeros_, ones_, xavier_uniform_, xavier_normal_, each with torch.nn.init's arguments and defaults.
class Initializer {
 public:
  /// Empty text: uniform(-sqrt(1/rows), sqrt(1/rows)). Throws ConfigError naming the table for anything unknown.
  Initializer(const std::string& text, const std::string& table, int64_t rows, int64_t dim);

  /// Fills rows [row_begin, row_begin + rows) of the table, `dim` wide. Every element's value depends on seed, table
  /// and position only, so shards of any size make the same table.
  void Fill(uint64_t seed, int64_t row_begin, int64_t rows, float* out) const;

 private:
  enum class Shape { kUniform, kNormal, kConstant };
  Shape shape_ = Shape::kUniform;
  double a_ = 0, b_ = 0;  ///< uniform: bounds; normal: mean and deviation; constant: a
  uint64_t stream_ = 0;
  int64_t dim_ = 0;
};

}  // namespace anneal::embedding
