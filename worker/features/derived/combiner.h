// Several numbers as one (parity/features.md 4.9, 4.10).
#pragma once

#include <cstdint>
#include <string>

namespace anneal::features {

enum class Combiner { kSum, kMean, kMin, kMax, kCount };

/// Of its name: sum, mean or avg, min, max, count, in any case. Throws ConfigError naming `feature`.
Combiner ParseCombiner(const std::string& name, const std::string& feature);

/// The numbers put so far, combined.
class Combined {
 public:
  explicit Combined(Combiner combiner) : combiner_(combiner) {}

  void Put(double number);
  int64_t count() const { return count_; }
  double value() const;  ///< of at least one number
  void Clear() { count_ = 0, value_ = 0; }

 private:
  const Combiner combiner_;
  int64_t count_ = 0;
  double value_ = 0;  ///< sum, smallest or largest
};

}  // namespace anneal::features
