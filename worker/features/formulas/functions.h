// The operators and functions of the expression language (parity/features.md 4.12), as kernels over float64 values.
#pragma once

#include <cstdint>
#include <string_view>

namespace anneal::features {

/// One value that stands for all, or a vector.
struct Values {
  const double* data = nullptr;
  int64_t size = 0;

  /// Value i of a vector that may be one value.
  double operator[](int64_t i) const { return data[size == 1 ? 0 : i]; }
};

constexpr int kMostArguments = 4;

/// Value by value:
///
///     isnan sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh log2 log10 log = ln exp sqrt abs floor ceil
///     trunc
///
///     sign(x)           -1, 0 or 1
///     rint(x)           floor(x + 0.5)
///     round(x)          to the nearest whole number, halves away from 0
///     roundp(x, digits) the same to so many decimal places; `digits` is cut to a whole number
///     mod(a, b)         what is left of a / b cut to a whole number; has the sign of a
///     sigmoid(x)        1 / (1 + e^-x)
///     haversine(lng1, lat1, lng2, lat2), sphere_dist(...)
///                       km between two points in degrees on a sphere of radius 6371 km
///     min max sum avg   of one or more arguments
///     rnd()             in [0, 1): a function of seed, place in the text and row
///
/// Of a vector of n values:
///
///     len  reduce_min reduce_max reduce_sum reduce_mean reduce_prod
///     squared_norm(x)   sum of x_i^2; l2_norm(x): its root
///     dot(a, b)         sum of a_i b_i
///     euclid_dist(a, b) root of the sum of (a_i - b_i)^2
///     corr(a, b)        Pearson's correlation; NaN where a or b does not vary
///     variance(x)       over n; std_dev(x): its root; pop_variance(x), pop_std_dev(x): over n - 1
struct Function {
  /// Writes `n` values, or one when `reduces`. Each operand has n values or one; `out` may be one of the operands.
  using Kernel = void (*)(const Values* operands, int64_t n, double* out);

  std::string_view name;
  int arguments = 0;  ///< kAny: one or more
  Kernel kernel = nullptr;
  bool reduces = false;  ///< a vector function

  static constexpr int kAny = -1;
};

/// Null when there is none. The kernel of rnd is null: its values come from the evaluation. Those of kAny take two
/// operands; several are folded, and avg divides what sum gives.
const Function* FindFunction(std::string_view name);

/// A binary operator as it stands in the text, and how tight it binds: 1 (||) to 7 (* /). `^` is power().
struct BinaryOperator {
  Function function;
  int precedence = 0;
};

/// The operator that `text` begins with; null when there is none.
const BinaryOperator* FindBinaryOperator(std::string_view text);

const Function& Power();
const Function& Negation();
const Function& Choice();  ///< condition, then, else

}  // namespace anneal::features
