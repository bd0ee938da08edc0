// A closed list of words and the rows they look up (parity/features.md 4.3).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "tzrec/feature.pb.h"

namespace anneal::features {

/// vocab_file of any kind of feature, where it is: in asset_dir, when there is one.
template <typename Config>
std::string VocabPath(const Config& config) {
  return config.asset_dir().empty() ? config.vocab_file() : config.asset_dir() + "/" + config.vocab_file();
}

/// Built once from vocab_list, vocab_dict or vocab_file of an id_feature; look-ups allocate nothing.
///
///     without default_bucketize_value: row 0 is default_value, row 1 every unknown word, a list starts at row 2;
///     with it: the list, dict or file as it is, unknown words get default_bucketize_value.
///
/// vocab_file: one "word" or "word index" per line (split at the first blank), always with default_bucketize_value.
class Vocabulary {
 public:
  /// Throws ConfigError naming the feature and, for a file, the line.
  static Vocabulary FromConfig(const tzrec::protos::IdFeature& config);

  int64_t rows() const { return rows_; }  ///< rows of the table, reserved ones included

  int64_t Find(std::string_view word) const {
    const auto found = rows_of_.find(word);
    return found == rows_of_.end() ? unknown_ : found->second;
  }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  void ReadFile(const std::string& path, const std::string& where);

  std::unordered_map<std::string, int64_t, Hash, std::equal_to<>> rows_of_;
  int64_t unknown_ = 1;
  int64_t rows_ = 0;
};

}  // namespace anneal::features
