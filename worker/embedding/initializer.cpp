#include "worker/embedding/initializer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "worker/config/error.h"
#include "worker/nn/parallel.h"

namespace anneal::embedding {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): a counter turned into random bits, so any element can be made alone.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

double UnitInterval(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1.0p-53; }

uint64_t HashText(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a
  for (const unsigned char c : text) hash = (hash ^ c) * 0x100000001b3ULL;
  return hash;
}

}  // namespace

Initializer::Initializer(const std::string& text, const std::string& table, int64_t rows, int64_t dim)
    : stream_(HashText(table)), dim_(dim) {
  const std::string where = "init_fn '" + text + "' of table '" + table + "'";
  if (text.empty()) {
    b_ = std::sqrt(1.0 / static_cast<double>(rows > 0 ? rows : 1));
    a_ = -b_;
    return;
  }
  std::string name = text.substr(0, text.find(','));
  std::map<std::string, double> arguments;
  for (size_t at = text.find(','); at != std::string::npos;) {
    const size_t next = text.find(',', at + 1);
    const std::string item = text.substr(at + 1, next == std::string::npos ? next : next - at - 1);
    const size_t equals = item.find('=');
    std::string key = item.substr(0, equals);
    key.erase(0, key.find_first_not_of(' '));
    try {
      if (equals == std::string::npos) throw std::invalid_argument(item);
      arguments[key] = std::stod(item.substr(equals + 1));
    } catch (const std::exception&) {
      throw ConfigError(where + ": '" + item + "' is not name=number");
    }
    at = next;
  }
  if (const size_t dot = name.rfind('.'); dot != std::string::npos) name.erase(0, dot + 1);
  auto take = [&arguments](const char* key, double fallback) {
    const auto found = arguments.find(key);
    if (found == arguments.end()) return fallback;
    const double value = found->second;
    arguments.erase(found);
    return value;
  };
  const double fans = static_cast<double>(rows + dim);
  if (name == "uniform_") {
    a_ = take("a", 0), b_ = take("b", 1);
  } else if (name == "normal_") {
    shape_ = Shape::kNormal;
    a_ = take("mean", 0), b_ = take("std", 1);
  } else if (name == "xavier_uniform_") {
    b_ = take("gain", 1) * std::sqrt(6.0 / fans);
    a_ = -b_;
  } else if (name == "xavier_normal_") {
    shape_ = Shape::kNormal;
    b_ = take("gain", 1) * std::sqrt(2.0 / fans);
  } else if (name == "constant_" || name == "zeros_" || name == "ones_") {
    shape_ = Shape::kConstant;
    a_ = name == "constant_" ? take("val", 0) : name == "ones_" ? 1 : 0;
  } else {
    throw ConfigError(where +
                      ": not supported; one of uniform_, normal_, constant_, zeros_, ones_, xavier_uniform_, "
                      "xavier_normal_");
  }
  if (!arguments.empty())
    throw ConfigError(where + ": " + name + " has no argument '" + arguments.begin()->first + "'");
}

void Initializer::Fill(uint64_t seed, int64_t row_begin, int64_t rows, float* out) const {
  const uint64_t first = Mix(seed ^ stream_) + static_cast<uint64_t>(row_begin * dim_);
  at::parallel_for(0, rows * dim_, int64_t{1} << 18, [&](int64_t begin, int64_t end) {
    const auto bits = [first](int64_t i) { return Mix(first + static_cast<uint64_t>(i)); };
    if (shape_ == Shape::kUniform) {
      for (int64_t i = begin; i < end; ++i) out[i] = static_cast<float>(a_ + (b_ - a_) * UnitInterval(bits(i)));
    } else if (shape_ == Shape::kNormal) {
      for (int64_t i = begin; i < end; ++i) {  // Box-Muller
        const double radius = std::sqrt(-2.0 * std::log(1.0 - UnitInterval(bits(i))));
        const double angle = 2.0 * std::numbers::pi * UnitInterval(Mix(~bits(i)));
        out[i] = static_cast<float>(a_ + b_ * radius * std::cos(angle));
      }
    } else {
      std::fill(out + begin, out + end, static_cast<float>(a_));
    }
  });
}

}  // namespace anneal::embedding
