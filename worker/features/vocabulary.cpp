#include "worker/features/vocabulary.h"

#include <algorithm>
#include <fstream>

#include "worker/config/error.h"
#include "worker/config/feature_kinds.h"
#include "worker/config/pipeline.h"
#include "worker/features/number_text.h"

namespace anneal::features {

Vocabulary Vocabulary::FromConfig(const tzrec::protos::IdFeature& config) {
  Vocabulary result;
  const std::string where = "feature " + config.feature_name() + ": ";
  const bool reserved = !config.has_default_bucketize_value();
  if (!reserved) result.unknown_ = static_cast<int64_t>(config.default_bucketize_value());

  if (config.vocab_list_size() > 0) {
    if (reserved) {
      result.rows_of_[config.default_value()] = 0;
      result.rows_of_["<OOV>"] = 1;
    }
    int64_t row = reserved ? 2 : 0;
    for (const std::string& word : config.vocab_list()) result.rows_of_[word] = row++;  // a later double wins
    result.rows_ = row;
    if (result.unknown_ >= result.rows_) {
      throw ConfigError(where + "default_bucketize_value " + std::to_string(result.unknown_) +
                        " is not below the length " + std::to_string(result.rows_) + " of vocab_list");
    }
  } else if (config.vocab_dict_size() > 0) {
    for (const auto& [word, row] : config.vocab_dict()) result.rows_of_[word] = static_cast<int64_t>(row);
    if (reserved && !config.default_value().empty()) result.rows_of_[config.default_value()] = 0;
    for (const auto& [word, row] : result.rows_of_) result.rows_ = std::max(result.rows_, row + 1);
  } else {
    if (reserved) throw ConfigError(where + "vocab_file needs default_bucketize_value");
    result.ReadFile(VocabPath(config), where);
  }
  return result;
}

void Vocabulary::ReadFile(const std::string& path, const std::string& where) {
  config::RequireRegular(path, where + "vocab_file " + path);
  std::ifstream file(path);
  if (!file) throw ConfigError(where + "vocab_file " + path + " cannot be opened");
  int64_t line_number = 0, indexed_lines = 0, word_lines = 0, next = 0;
  for (std::string line; std::getline(file, line);) {
    ++line_number;
    constexpr const char* kBlanks = " \t\r\f\v";
    const size_t begin = line.find_first_not_of(kBlanks);
    if (begin == std::string::npos) continue;
    const std::string_view text = std::string_view(line).substr(begin, line.find_last_not_of(kBlanks) - begin + 1);
    const size_t gap = text.find_first_of(kBlanks);
    const std::string word(text.substr(0, gap));
    ++word_lines;
    if (gap == std::string_view::npos) {
      if (rows_of_.try_emplace(word, next).second) ++next;
      continue;
    }
    const std::string_view index_text = text.substr(text.find_first_not_of(kBlanks, gap));
    int64_t index = 0;
    if (!ParseNumber(index_text, &index) || index < 0 || index >= config::kMostRows) {
      throw ConfigError(where + path + " line " + std::to_string(line_number) + ": \"" + std::string(index_text) +
                        "\" is not an index");
    }
    ++indexed_lines;
    rows_of_[word] = index;
    rows_ = std::max(rows_, index + 1);
  }
  if (file.bad()) throw ConfigError(where + "vocab_file " + path + " cannot be read");
  if (word_lines == 0) throw ConfigError(where + "vocab_file " + path + " holds no word");
  if (indexed_lines != 0 && indexed_lines != word_lines) {
    throw ConfigError(where + "vocab_file " + path + " holds lines with and lines without an index");
  }
  if (indexed_lines == 0) rows_ = next;
}

}  // namespace anneal::features
