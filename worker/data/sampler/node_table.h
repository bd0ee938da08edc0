// The items, or the users, that a sampler knows (parity/data.md 5.1).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/data/row_slice.h"
#include "worker/data/sampler/attribute_columns.h"
#include "worker/data/sampler/table_file.h"

namespace anneal::data {

/// A text file of "id | weight", or "id | weight | attributes"; rows keep its order.
class NodeTable {
 public:
  /// `attributes`, null where the file has none, gets every row's. Throws DataError naming file, row and column for
  /// what TableFile refuses, for an id that is there twice, attributes that cannot be read, and a file without a row.
  NodeTable(const std::string& path, const std::string& delimiter, AttributeColumns* attributes);

  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  const std::vector<float>& weights() const { return weights_; }    ///< of every row
  int64_t Find(int64_t id) const { return places_[Slot(id)] - 1; }  ///< its row, or -1; `id` as of ReadNodeId
  /// All rows' attributes, which name file and row; no rows without any.
  const RowSlice& attributes() const { return attributes_; }

 private:
  size_t Slot(int64_t id) const;  ///< of places_, where the id is or would be
  void Grow();

  std::vector<int64_t> ids_;
  std::vector<float> weights_;
  std::vector<int32_t> places_;  ///< open addressing by id: row + 1, or 0
  RowSlice attributes_;
};

}  // namespace anneal::data
