// Feature groups out of the pooled and the dense matrix, as one differentiable operation.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "worker/models/embedding_group.h"

namespace anneal::models {

/// One [B, Group::assembled_width] float32 tensor per group of the plan, in its order; a group that is one run of
/// columns is a view. pooled [B, pooled_width], dense [B, dense_width], which gets no gradient, embedded
/// [B, embedded_width], undefined where that is 0. The plan has to live as long as the graph.
///
/// Backward writes every column of the pooled gradient once. Autograd's own slices would each fill a whole matrix with
/// zeros and add them up; the sums are the same, in the same order.
std::vector<at::Tensor> AssembleGroups(const EmbeddingPlan& plan, const at::Tensor& pooled, const at::Tensor& dense,
                                       const at::Tensor& embedded = {});

/// Calls action(index in plan.lookups, column in the group) for each lookup whose columns the group has.
template <typename Action>
void ForEachLookup(const EmbeddingPlan& plan, const Group& group, Action action) {
  int64_t column = 0;
  for (const Block& block : group.blocks) {
    for (size_t l = 0; block.source == Block::Source::kPooled && l < plan.lookups.size(); ++l) {
      const Lookup& lookup = plan.lookups[l];
      if (plan.tables[lookup.table].sequence) continue;  // its columns are the element matrix's
      if (lookup.column < block.column || lookup.column >= block.column + block.width) continue;
      action(l, column + lookup.column - block.column);
    }
    column += block.width;
  }
}

}  // namespace anneal::models
