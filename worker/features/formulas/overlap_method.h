// overlap_feature: how far the words of a title are those of a query (parity/features.md 4.13).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace anneal::features {

/// A word that is there several times is one word for the ratios, the cover and the distances:
///
///     query_common_ratio   words of both / words of the query
///     title_common_ratio   words of both / words of the title
///     is_contain           1: the title has all words of the query in the query's order, others may stand between
///     is_equal             1: the same words in the same order
///     index_of             where the query first stands in the title as a whole, from 0; -1: nowhere
///     proximity_min_cover  words of the shortest piece of the title that has every word of the query; 0: there is none
///     proximity_min_dist, proximity_max_dist, proximity_avg_dist
///                          over all pairs of the query's words that the title has: how far apart they stand where they
///                          stand nearest, neighbours 1. Words of the title + 1 when it has none of them, 0 for one
///
/// The last four are those of Tao and Zhai, "An exploration of proximity measures in information retrieval" (2007).
class OverlapMethod {
 public:
  /// Nothing for a name that is none of the above.
  static std::optional<OverlapMethod> FromName(std::string_view method);
  /// The names, for messages.
  static std::string Names();

  using Words = std::span<const std::string_view>;

  /// What evaluation works in: one for each thread, used again and again.
  struct Scratch {
    std::vector<std::string_view> query, title;  ///< sorted, each once
    std::vector<int> at;                         ///< of the title's words: which of `query`; -1: none
    std::vector<int64_t> last, nearest;
  };

  /// Of words that are there: neither list is empty. Throws a Refusal for distances of more than 2,048 words that both
  /// have.
  double operator()(Words query, Words title, Scratch& scratch) const;

 private:
  using Method = double (*)(Words query, Words title, Scratch& scratch);

  explicit OverlapMethod(Method method) : method_(method) {}

  Method method_;
};

}  // namespace anneal::features
