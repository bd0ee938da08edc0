// Which items a user is connected to (parity/data.md 5.1).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "worker/data/sampler/node_table.h"

namespace anneal::data {

/// A text file of "user id | item id | weight". Weights are checked and have no meaning.
class EdgeTable {
 public:
  /// Edges to what is no row of `items` are left out: unknown(). Throws DataError as TableFile does; there may be no
  /// edge.
  EdgeTable(const std::string& path, const std::string& delimiter, const NodeTable& items);

  /// Rows of the items that `user` is connected to, in the file's order; one may be there twice.
  std::span<const int32_t> Of(int64_t user) const;

  /// Makes each list of Of() ascending and without repetitions.
  void SortTargets();

  int64_t unknown() const { return unknown_; }
  int64_t first_unknown_line() const { return first_unknown_line_; }

 private:
  std::vector<int64_t> users_;  ///< ascending, each once
  std::vector<size_t> ends_;    ///< in targets_, of each user's
  std::vector<int32_t> targets_;
  int64_t unknown_ = 0, first_unknown_line_ = 0;
};

}  // namespace anneal::data
