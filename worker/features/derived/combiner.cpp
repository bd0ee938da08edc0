#include "worker/features/derived/combiner.h"

#include <algorithm>
#include <cctype>

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
  if (combiner_ == Combiner::kMin) {
    value_ = count_ == 0 ? number : std::min(value_, number);
  } else if (combiner_ == Combiner::kMax) {
    value_ = count_ == 0 ? number : std::max(value_, number);
  } else {
    value_ += number;
  }
  ++count_;
}

double Combined::value() const {
  if (combiner_ == Combiner::kCount) return static_cast<double>(count_);
  return combiner_ == Combiner::kMean ? value_ / static_cast<double>(count_) : value_;
}

}  // namespace anneal::features
