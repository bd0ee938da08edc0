// A rank's looked-up rows in blocks, one per rank that looks up parts of them: what the output all-to-all carries. A
// lookup is put together from its pieces: blocks of columns side by side, blocks of rows added up. The gradient takes
// the same way in reverse.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "worker/embedding/id_exchange.h"
#include "worker/models/embedding_group.h"

namespace anneal::embedding {

class LookupPieces {
 public:
  /// `served`: per rank the lookups that it serves, in the order of its columns. Both live longer than this.
  /// `width`: of the matrix that the lookups fill.
  LookupPieces(const models::EmbeddingPlan& plan, const std::vector<std::vector<ServedLookup>>& served, int64_t width);

  /// Columns of a rank's block.
  int64_t width(int rank) const { return widths_[rank]; }

  /// Blocks of the input's rows, [sum over ranks of rows * width(rank)] -> [rows, width]. MEAN over split rows is
  /// divided by the bag's length here. On the device of `blocks`.
  at::Tensor Join(const at::Tensor& blocks, const LookupInput& input) const;

  /// d loss / d Join's result, multiplied by `scale` and then, with bound > 0, clamped to [-bound, bound] -> blocks.
  at::Tensor Split(const at::Tensor& gradient, const LookupInput& input, float scale, float bound) const;

 private:
  struct Piece {
    int64_t block, column,
        width;  ///< the rank's block begins at `block`; the piece is at `column` of its rows of `width`
    int64_t target_column, columns;  ///< in the whole matrix
    const int64_t* offsets;          ///< of the lookup's bags
    bool divide;                     ///< MEAN over split rows
  };
  template <typename Action>
  void ForEach(const LookupInput& input, Action action) const;
  int64_t total(int64_t rows) const;

  const models::EmbeddingPlan& plan_;
  const std::vector<std::vector<ServedLookup>>& served_;
  const int64_t width_;
  std::vector<int64_t> widths_;  ///< of the ranks' blocks
};

}  // namespace anneal::embedding
