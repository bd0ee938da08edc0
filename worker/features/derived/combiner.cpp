#include "worker/features/derived/combiner.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "worker/config/error.h"

namespace anneal::features {

Combiner ParseCombiner(const std::string& name, const std::string& feature) {
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower == "sum") return Combiner::kSum;
  if (lower == "mean" || lower == "avg") return Combiner::kMean;
  if (lower == "min") return Combiner::kMin;
  if (lower == "max") return Combiner::kMax;
  if (lower == "count") return Combiner::kCount;
  throw ConfigError("feature " + feature + ": combiner \"" + name + "\" is not one of sum, mean, avg, min, max, count");
}

void Combined::Put(double number) {
  const bool extreme = combiner_ == Combiner::kMin || combiner_ == Combiner::kMax;
  if (!extreme) {
    value_ += number;
  } else if (count_ == 0 || std::isnan(number) || (combiner_ == Combiner::kMin ? number < value_ : number > value_)) {
    value_ = number;  // a NaN stays: nothing is less or more
  }
  ++count_;
}

double Combined::value() const {
  if (combiner_ == Combiner::kCount) return static_cast<double>(count_);
  return combiner_ == Combiner::kMean ? value_ / static_cast<double>(count_) : value_;
}

}  // namespace anneal::features
