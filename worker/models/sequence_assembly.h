// Sequence groups out of the element matrix, as one differentiable operation.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "worker/data/batch.h"
#include "worker/models/embedding_group.h"
#include "worker/nn/sequence_encoder.h"

namespace anneal::models {

/// Where the sequences of a batch begin and end.
struct SequenceLayout {
  struct Part {
    at::Tensor offsets;  ///< [B + 1] int64: row b has the feature's elements [offsets[b], offsets[b + 1])
    at::Tensor values;   ///< [elements, width] float32 of a dense feature; undefined when the elements are looked up
  };
  /// B: the rows of the batch, without those of sampled items unless the group is item_side.
  struct OfGroup {
    int64_t rows = 0;         ///< B
    std::vector<Part> parts;  ///< of SequenceGroup::sequence
    int64_t elements = 0;     ///< of a jagged group
    at::Tensor length;        ///< [B] int64, of the first part; undefined where there is none
    at::Tensor mask;  ///< [B, T] bool, T at least 1: the position is before the row's end; likewise, and when jagged
  };
  std::vector<OfGroup> groups;  ///< of EmbeddingPlan::sequence_groups

  /// The same with `change` applied to every tensor.
  SequenceLayout Map(const std::function<at::Tensor(const at::Tensor&)>& change) const;
};

/// On the host; may share memory with the batch. Throws DataError where the padding would take all memory, and where
/// features of a jagged group have other lengths than the first.
SequenceLayout LayoutOf(const EmbeddingPlan& plan, const data::Batch& batch);

/// The plan's sequence groups. elements [E, element_width], dense [rows, dense_width], all on one device; the dense
/// matrix gets no gradient. Plan and layout have to live as long as the graph.
std::vector<nn::Sequence> AssembleSequences(const EmbeddingPlan& plan, const SequenceLayout& layout,
                                            const at::Tensor& elements, const at::Tensor& dense);

/// A padded group's sequence [B, T, sequence_width] by stock operations, as other devices than the CPU make it.
at::Tensor PadByIndex(const SequenceGroup& group, const SequenceLayout::OfGroup& layout, const at::Tensor& elements);

}  // namespace anneal::models
