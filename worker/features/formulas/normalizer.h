// The normalizer of raw_feature (parity/features.md 4.7), compiled from its text once.
#pragma once

#include <cmath>
#include <memory>
#include <string>

namespace anneal::features {

class Expression;

/// One value in, one out. Defaults of the feature bypass it.
///
///     log10       x > threshold ? log10(x) : default   keys threshold (1e-10), default (-10)
///     zscore      (x - mean) / standard_deviation      keys mean, standard_deviation, both needed
///     minmax      (x - min) / (max - min)              keys min, max, both needed
///     expression  an expression.h of x, without rnd()  key expr, all that follows: "method=expression,expr=log(x+3)"
class Normalizer {
 public:
  Normalizer() = default;  ///< returns x itself

  /// `text` as in the config, "method=log10,threshold=1e-10,default=-10"; empty is the identity. `feature` is only
  /// for messages. Throws ConfigError for an unknown method or key, a missing key, a zero divisor, or a fault of the
  /// expression.
  static Normalizer FromText(const std::string& text, const std::string& feature);

  bool identity() const { return kind_ == Kind::kIdentity; }

  float operator()(float x) const {
    switch (kind_) {
      case Kind::kLog10:
        return x > first_ ? static_cast<float>(std::log10(static_cast<double>(x))) : static_cast<float>(second_);
      case Kind::kLinear:
        return static_cast<float>((x - first_) / second_);
      case Kind::kExpression:
        return Compute(x);
      case Kind::kIdentity:
        break;
    }
    return x;
  }

 private:
  enum class Kind { kIdentity, kLog10, kLinear, kExpression };

  float Compute(float x) const;

  Kind kind_ = Kind::kIdentity;
  double first_ = 0, second_ = 1;  ///< log10: threshold, default; linear: offset, divisor
  std::shared_ptr<const Expression> expression_;
};

}  // namespace anneal::features
