#include "worker/models/sequence_assembly.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstring>

#include "worker/config/error.h"
#include "worker/nn/parallel.h"

namespace anneal::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kRowsPerTask = 64;

at::Tensor Offsets(const int64_t* first, int64_t rows) {
  at::Tensor offsets = at::empty({rows + 1}, at::kLong);
  int64_t* out = offsets.mutable_data_ptr<int64_t>();
  for (int64_t b = 0; b <= rows; ++b) out[b] = first[b] - first[0];
  return offsets;
}

/// A rectangle that is copied between a row's padded sequence and the element matrix, or a dense feature's values.
struct Columns {
  int64_t padded = 0, source = 0, width = 0;  ///< first columns, and how many
};

/// Calls each(part, columns) for the parts with their places in the padded rows.
template <typename Each>
void ForEachPart(const std::vector<SequencePart>& parts, Each each) {
  int64_t column = 0;
  for (size_t p = 0; p < parts.size(); ++p) {
    each(p, Columns{column, parts[p].looked_up ? parts[p].column : 0, parts[p].width});
    column += parts[p].width;
  }
}

size_t Bytes(int64_t floats) { return sizeof(float) * static_cast<size_t>(floats); }

/// [B, T, Ds]: the elements of each row, zeros behind them.
at::Tensor Pad(const SequenceGroup& group, const SequenceLayout::OfGroup& layout, const at::Tensor& elements) {
  const int64_t rows = layout.mask.size(0), longest = layout.mask.size(1), width = group.sequence_width;
  at::Tensor padded = at::empty({rows, longest, width}, elements.options());
  float* const out = padded.data_ptr<float>();
  ForEachPart(group.sequence, [&](size_t p, const Columns& columns) {
    const SequenceLayout::Part& part = layout.parts[p];
    const at::Tensor& from = group.sequence[p].looked_up ? elements : part.values;
    const float* const source = from.const_data_ptr<float>() + columns.source;
    const int64_t stride = from.stride(0), *const offsets = part.offsets.const_data_ptr<int64_t>();
    at::parallel_for(0, rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        float* target = out + b * longest * width + columns.padded;
        const int64_t length = std::min(longest, offsets[b + 1] - offsets[b]);
        for (int64_t t = 0; t < longest; ++t, target += width) {
          if (t < length) {
            std::memcpy(target, source + (offsets[b] + t) * stride, Bytes(columns.width));
          } else {
            std::memset(target, 0, Bytes(columns.width));
          }
        }
      }
    });
  });
  return padded;
}

/// Adds the gradient of Pad's result to that of the elements.
void AddPadded(const SequenceGroup& group, const SequenceLayout::OfGroup& layout, const at::Tensor& gradient,
               const at::Tensor& elements) {
  const int64_t rows = layout.mask.size(0), longest = layout.mask.size(1), width = group.sequence_width;
  const float* const from = gradient.const_data_ptr<float>();
  ForEachPart(group.sequence, [&](size_t p, const Columns& columns) {
    if (!group.sequence[p].looked_up) return;
    float* const to = elements.data_ptr<float>() + columns.source;
    const int64_t stride = elements.stride(0), *const offsets = layout.parts[p].offsets.const_data_ptr<int64_t>();
    at::parallel_for(0, rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const float* source = from + b * longest * width + columns.padded;
        const int64_t length = std::min(longest, offsets[b + 1] - offsets[b]);
        for (int64_t t = 0; t < length; ++t, source += width) {
          float* const target = to + (offsets[b] + t) * stride;
          for (int64_t d = 0; d < columns.width; ++d) target[d] += source[d];
        }
      }
    });
  });
}

/// [elements, Ds] of a jagged group: its features side by side.
at::Tensor Flat(const SequenceGroup& group, const SequenceLayout::OfGroup& layout, const at::Tensor& elements) {
  std::vector<at::Tensor> parts;
  for (size_t p = 0; p < group.sequence.size(); ++p) {
    const SequencePart& part = group.sequence[p];
    parts.push_back(part.looked_up ? elements.narrow(0, 0, layout.elements).narrow(1, part.column, part.width)
                                   : layout.parts[p].values);
  }
  return at::cat(parts, 1);
}

/// Adds the gradient of Flat's or Query's result to that of the elements.
void AddFlat(const std::vector<SequencePart>& parts, const at::Tensor& gradient, const at::Tensor& elements) {
  ForEachPart(parts, [&](size_t p, const Columns& columns) {
    if (!parts[p].looked_up) return;
    elements.narrow(0, 0, gradient.size(0))
        .narrow(1, columns.source, columns.width)
        .add_(gradient.narrow(1, columns.padded, columns.width));
  });
}

/// [B, Dq]: an element a row of the batch, and dense columns.
at::Tensor Query(const SequenceGroup& group, int64_t rows, const at::Tensor& elements, const at::Tensor& dense) {
  std::vector<at::Tensor> parts;
  for (const SequencePart& part : group.query) {
    parts.push_back((part.looked_up ? elements : dense).narrow(0, 0, rows).narrow(1, part.column, part.width));
  }
  return parts.empty() ? at::Tensor() : at::cat(parts, 1);
}

/// Queries, where there are any, and sequences: two tensors a group.
struct Assembly : torch::autograd::Function<Assembly> {
  static variable_list forward(AutogradContext* context, const at::Tensor& elements, const at::Tensor& dense,
                               const EmbeddingPlan* plan, const SequenceLayout* layout) {
    context->set_materialize_grads(false);
    context->saved_data["plan"] = reinterpret_cast<int64_t>(plan);
    context->saved_data["layout"] = reinterpret_cast<int64_t>(layout);
    context->saved_data["elements"] = elements.size(0);
    variable_list made;
    for (size_t g = 0; g < plan->sequence_groups.size(); ++g) {
      const SequenceGroup& group = plan->sequence_groups[g];
      made.push_back(group.query.empty() ? at::empty({0}, elements.options())
                                         : Query(group, layout->groups[g].rows, elements, dense));
      made.push_back(group.jagged ? Flat(group, layout->groups[g], elements) : Pad(group, layout->groups[g], elements));
    }
    return made;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto& plan = *reinterpret_cast<const EmbeddingPlan*>(context->saved_data["plan"].toInt());
    const auto& layout = *reinterpret_cast<const SequenceLayout*>(context->saved_data["layout"].toInt());
    at::Tensor elements = at::zeros({context->saved_data["elements"].toInt(), plan.element_width}, at::kFloat);
    for (size_t g = 0; g < plan.sequence_groups.size(); ++g) {
      const SequenceGroup& group = plan.sequence_groups[g];
      const at::Tensor &query = gradients[2 * g], &sequence = gradients[2 * g + 1];
      if (query.defined()) AddFlat(group.query, query.to(at::kFloat), elements);
      if (!sequence.defined()) continue;
      if (group.jagged) {
        AddFlat(group.sequence, sequence.to(at::kFloat), elements);
      } else {
        AddPadded(group, layout.groups[g], sequence.to(at::kFloat).contiguous(), elements);
      }
    }
    return {elements, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor PadByIndex(const SequenceGroup& group, const SequenceLayout::OfGroup& layout, const at::Tensor& elements) {
  const int64_t rows = layout.mask.size(0), longest = layout.mask.size(1);
  const at::Tensor position = at::arange(longest, layout.length.options());
  std::vector<at::Tensor> parts;
  ForEachPart(group.sequence, [&](size_t p, const Columns& columns) {
    const SequenceLayout::Part& part = layout.parts[p];
    const at::Tensor source =
        group.sequence[p].looked_up ? elements.narrow(1, columns.source, columns.width) : part.values;
    if (source.size(0) == 0) return parts.push_back(at::zeros({rows, longest, columns.width}, elements.options()));
    const at::Tensor first = part.offsets.slice(0, 0, -1).unsqueeze(1), end = part.offsets.slice(0, 1).unsqueeze(1);
    const at::Tensor inside = (first + position).lt(end);
    const at::Tensor index = at::where(inside, first + position, at::zeros({}, first.options()));
    parts.push_back(source.index_select(0, index.flatten()).view({rows, longest, columns.width}) *
                    inside.unsqueeze(2).to(at::kFloat));
  });
  return at::cat(parts, 2);
}

SequenceLayout SequenceLayout::Map(const std::function<at::Tensor(const at::Tensor&)>& change) const {
  SequenceLayout mapped;
  for (const OfGroup& group : groups) {
    OfGroup& copy = mapped.groups.emplace_back();
    copy.rows = group.rows;
    if (group.parts.empty()) continue;
    for (const Part& part : group.parts) {
      copy.parts.push_back({change(part.offsets), part.values.defined() ? change(part.values) : at::Tensor()});
    }
    copy.elements = group.elements;
    copy.length = change(group.length);
    if (group.mask.defined()) copy.mask = change(group.mask);
  }
  return mapped;
}

namespace {

void RefuseTooMuch(const SequenceGroup& group, int64_t rows, int64_t longest) {
  constexpr double kMost = 16.0 * (1 << 30);
  const double bytes = static_cast<double>(rows) * static_cast<double>(longest) *
                       static_cast<double>(group.sequence_width) * sizeof(float);
  if (bytes <= kMost) return;
  throw DataError("sequence group '" + group.name + "': a row of the batch has " + std::to_string(longest) +
                  " elements; " + std::to_string(rows) + " rows as long take " +
                  std::to_string(static_cast<int64_t>(bytes / (1 << 30))) +
                  " GiB. Cut the sequences, give the encoders a max_seq_length, or make the batch smaller");
}

/// Readers, who know the file, tell the rows of a ranker's groups before (data::CheckAligned).
void RequireOneLength(const SequenceGroup& group, const SequenceLayout::OfGroup& layout) {
  const at::Tensor& first = layout.parts.front().offsets;
  for (const SequenceLayout::Part& part : layout.parts) {
    if (at::equal(part.offsets, first)) continue;
    const int64_t end = (part.offsets != first).nonzero()[0].item<int64_t>();
    throw DataError("sequence group '" + group.name + "': its features have different numbers of elements in row " +
                    std::to_string(end) + " of a batch");
  }
}

}  // namespace

SequenceLayout LayoutOf(const EmbeddingPlan& plan, const data::Batch& batch) {
  SequenceLayout layout;
  for (const SequenceGroup& group : plan.sequence_groups) {
    SequenceLayout::OfGroup& made = layout.groups.emplace_back();
    const int64_t rows = made.rows = batch.rows - (group.item_side ? 0 : batch.negatives);
    if (group.sequence.empty()) continue;
    for (const SequencePart& part : group.sequence) {
      if (part.looked_up) {
        made.parts.push_back({Offsets(batch.sparse.offsets.data() + part.feature * batch.rows, rows), {}});
        continue;
      }
      const data::DenseSequence& dense = batch.dense_sequences[part.feature];
      const int64_t elements = static_cast<int64_t>(dense.values.size()) / part.width;
      made.parts.push_back({Offsets(dense.offsets.data(), rows), at::from_blob(const_cast<float*>(dense.values.data()),
                                                                               {elements, part.width}, at::kFloat)});
    }
    const at::Tensor& offsets = made.parts.front().offsets;
    made.length = offsets.slice(0, 1) - offsets.slice(0, 0, -1);
    if (group.jagged) {
      RequireOneLength(group, made);
      made.elements = offsets[rows].item<int64_t>();
      continue;
    }
    int64_t longest = std::max<int64_t>(rows > 0 ? made.length.max().item<int64_t>() : 0, 1);
    if (group.most > 0) longest = std::min(longest, group.most);
    RefuseTooMuch(group, rows, longest);
    made.mask = at::arange(longest, at::kLong).unsqueeze(0).lt(made.length.unsqueeze(1));
  }
  return layout;
}

std::vector<nn::Sequence> AssembleSequences(const EmbeddingPlan& plan, const SequenceLayout& layout,
                                            const at::Tensor& elements, const at::Tensor& dense) {
  std::vector<nn::Sequence> sequences;
  variable_list made;
  const bool differentiated = c10::GradMode::is_enabled() && elements.requires_grad();
  if (differentiated && elements.is_cpu()) made = Assembly::apply(elements, dense, &plan, &layout);
  for (size_t g = 0; g < plan.sequence_groups.size(); ++g) {
    const SequenceGroup& group = plan.sequence_groups[g];
    nn::Sequence sequence;
    const SequenceLayout::OfGroup& of = layout.groups[g];
    if (!made.empty()) {
      if (!group.query.empty()) sequence.query = made[2 * g];
      sequence.sequence = made[2 * g + 1];
    } else {
      sequence.query = Query(group, of.rows, elements, dense);
      if (!group.sequence.empty()) {
        sequence.sequence = group.jagged        ? Flat(group, of, elements)
                            : elements.is_cpu() ? Pad(group, of, elements)
                                                : PadByIndex(group, of, elements);
      }
    }
    sequence.length = of.length;
    sequence.mask = of.mask;
    sequences.push_back(std::move(sequence));
  }
  return sequences;
}

}  // namespace anneal::models
