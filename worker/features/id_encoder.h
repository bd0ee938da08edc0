// How one value becomes a row of the table (parity/features.md 4.2-4.5): small functors, one per kind, that the sparse
// loops are compiled for. Each takes a value and writes the id; false means that the value is none of its kind.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <memory>
#include <string_view>
#include <variant>
#include <vector>

#include "worker/features/formulas/normalizer.h"
#include "worker/features/number_text.h"
#include "worker/features/string_hash.h"
#include "worker/features/vocabulary.h"

namespace anneal::features {

/// Integers are looked up and hashed as their decimal text.
class DecimalText {
 public:
  explicit DecimalText(int64_t value) : end_(std::to_chars(text_, text_ + sizeof text_, value).ptr) {}
  std::string_view view() const { return {text_, static_cast<size_t>(end_ - text_)}; }

 private:
  char text_[24];
  char* end_;
};

/// The value is the id: num_buckets, and every encoded feature of FG_NONE.
struct DirectId {
  static constexpr const char* kExpected = "is not an integer";
  bool operator()(std::string_view text, int64_t* id) const { return ParseNumber(text, id); }
  bool operator()(int64_t value, int64_t* id) const {
    *id = value;
    return true;
  }
};

/// hash_bucket_size. `integer_text`: fg_value_type is an integer, so "007" hashes as "7".
template <uint64_t (*Hash)(std::string_view)>
struct HashedId {
  static constexpr const char* kExpected = "is not an integer";
  uint64_t size = 1;
  bool integer_text = false;

  bool operator()(std::string_view text, int64_t* id) const {
    if (integer_text) {
      int64_t value = 0;
      return ParseNumber(text, &value) && (*this)(value, id);
    }
    *id = static_cast<int64_t>(Hash(text) % size);
    return true;
  }
  bool operator()(int64_t value, int64_t* id) const {
    *id = static_cast<int64_t>(Hash(DecimalText(value).view()) % size);
    return true;
  }
};
using MurmurId = HashedId<MurmurHash64A>;
using FarmId = HashedId<FarmFingerprint64>;

/// vocab_list, vocab_dict, vocab_file.
struct WordId {
  static constexpr const char* kExpected = "is not a word";
  std::shared_ptr<const Vocabulary> vocabulary;

  bool operator()(std::string_view text, int64_t* id) const {
    *id = vocabulary->Find(text);
    return true;
  }
  bool operator()(int64_t value, int64_t* id) const { return (*this)(DecimalText(value).view(), id); }
};

/// boundaries: the number of boundaries <= x, compared in float32, after the normalizer.
struct BucketId {
  static constexpr const char* kExpected = "is not a number";
  std::vector<float> boundaries;
  Normalizer normalizer;

  bool operator()(std::string_view text, int64_t* id) const {
    float x = 0;
    return ParseNumber(text, &x) && (*this)(x, id);
  }
  bool operator()(float x, int64_t* id) const {
    *id = std::upper_bound(boundaries.begin(), boundaries.end(), normalizer(x)) - boundaries.begin();
    return true;
  }
};

/// The bucket of a default, which no normalizer sees and which is compared in float64: 0.1 is below the boundary 0.1f.
struct DefaultBucketId {
  static constexpr const char* kExpected = "is not a number";
  const std::vector<float>& boundaries;

  bool operator()(std::string_view text, int64_t* id) const {
    double x = 0;
    if (!ParseNumber(text, &x)) return false;
    *id = std::upper_bound(boundaries.begin(), boundaries.end(), x) - boundaries.begin();
    return true;
  }
};

using IdEncoder = std::variant<DirectId, MurmurId, FarmId, WordId, BucketId>;

}  // namespace anneal::features
