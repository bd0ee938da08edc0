#include "worker/models/group_assembly.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <cstring>

#include "worker/nn/parallel.h"

namespace anneal::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kRowsPerTask = 256;

/// What the columns of groups come from.
struct Matrices {
  at::Tensor pooled, dense, embedded;

  const at::Tensor& at(Block::Source source) const {
    return source == Block::Source::kPooled ? pooled : source == Block::Source::kDense ? dense : embedded;
  }
};

at::Tensor Assemble(const Group& group, const Matrices& matrices) {
  std::vector<at::Tensor> parts;
  parts.reserve(group.blocks.size());
  if (group.blocks.empty()) return matrices.pooled.narrow(1, 0, 0);
  for (const Block& block : group.blocks)
    parts.push_back(matrices.at(block.source).narrow(1, block.column, block.width));
  return parts.size() == 1 ? parts.front() : at::cat(parts, 1);
}

bool InRows(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && (tensor.size(1) == 0 || tensor.stride(1) == 1);
}

/// Assemble in one pass over the rows, where that can be.
at::Tensor AssembleRows(const Group& group, const Matrices& matrices) {
  if (group.blocks.size() <= 1) return Assemble(group, matrices);
  struct From {
    const float* first;
    int64_t stride;
    size_t bytes;
  };
  std::vector<From> sources;
  for (const Block& block : group.blocks) {
    const at::Tensor& matrix = matrices.at(block.source);
    if (!InRows(matrix)) return Assemble(group, matrices);
    sources.push_back({matrix.const_data_ptr<float>() + block.column, matrix.stride(0),
                       sizeof(float) * static_cast<size_t>(block.width)});
  }
  const int64_t rows = matrices.pooled.size(0);
  at::Tensor assembled = at::empty({rows, group.assembled_width}, matrices.pooled.options());
  float* const out = assembled.data_ptr<float>();
  at::parallel_for(0, rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      char* target = reinterpret_cast<char*>(out + b * group.assembled_width);
      for (const From& from : sources) {
        std::memcpy(target, from.first + b * from.stride, from.bytes);
        target += from.bytes;
      }
    }
  });
  return assembled;
}

/// A run of columns of a group's gradient on its way to the pooled gradient.
struct Run {
  const float* from = nullptr;
  int64_t stride = 0, column = 0, width = 0;
  bool first = true;  ///< nothing was written to these columns before: copy, do not add
  bool one = false;   ///< `from` is one number for all columns: the gradient of a sum
};

void Take(const Run& run, int64_t row, float* __restrict target) {
  const float* __restrict from = run.from + row * run.stride;
  if (run.one) {
    const float value = *from;
    for (int64_t d = 0; d < run.width; ++d) target[d] = run.first ? value : target[d] + value;
  } else if (run.first) {
    std::memcpy(target, from, sizeof(float) * static_cast<size_t>(run.width));
  } else {
#pragma omp simd
    for (int64_t d = 0; d < run.width; ++d) target[d] += from[d];
  }
}

/// Later groups come first, as autograd would add them.
std::vector<Run> RunsOf(const EmbeddingPlan& plan, const variable_list& gradients) {
  std::vector<Run> runs;
  std::vector<bool> written(plan.lookups.size(), false);
  for (size_t g = plan.groups.size(); g-- > 0;) {
    if (!gradients[g].defined()) continue;
    const bool one = gradients[g].stride(1) == 0;
    ForEachLookup(plan, plan.groups[g], [&](size_t l, int64_t column) {
      const Lookup& lookup = plan.lookups[l];
      const float* from = gradients[g].const_data_ptr<float>() + (one ? 0 : column);
      Run run{from, gradients[g].stride(0), lookup.column, lookup.dim, !written[l], one};
      written[l] = true;
      Run* last = runs.empty() ? nullptr : &runs.back();
      if (last && last->first == run.first && last->one == one && last->from + (one ? 0 : last->width) == from &&
          last->column + last->width == run.column) {
        last->width += run.width;
      } else {
        runs.push_back(run);
      }
    });
  }
  return runs;
}

/// Few blocks, added one by one; later groups come first here, too.
at::Tensor EmbeddedGradient(const EmbeddingPlan& plan, const variable_list& gradients, int64_t rows) {
  at::Tensor embedded = at::zeros({rows, plan.embedded_width}, at::kFloat);
  for (size_t g = plan.groups.size(); g-- > 0;) {
    int64_t column = 0;
    for (const Block& block : plan.groups[g].blocks) {
      if (gradients[g].defined() && block.source == Block::Source::kEmbedded)
        embedded.narrow(1, block.column, block.width).add_(gradients[g].narrow(1, column, block.width));
      column += block.width;
    }
  }
  return embedded;
}

struct Assembly : torch::autograd::Function<Assembly> {
  static variable_list forward(AutogradContext* context, const at::Tensor& pooled, const at::Tensor& dense,
                               const at::Tensor& embedded, const EmbeddingPlan* plan) {
    context->set_materialize_grads(false);
    context->saved_data["plan"] = reinterpret_cast<int64_t>(plan);
    context->saved_data["rows"] = pooled.size(0);
    const Matrices matrices{pooled, dense, embedded};
    variable_list groups;
    for (const Group& group : plan->groups) groups.push_back(AssembleRows(group, matrices));
    return groups;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto& plan = *reinterpret_cast<const EmbeddingPlan*>(context->saved_data["plan"].toInt());
    const int64_t rows = context->saved_data["rows"].toInt(), width = plan.pooled_width;
    for (at::Tensor& gradient : gradients) {
      if (!gradient.defined()) continue;
      gradient = gradient.to(at::kFloat);
      if (gradient.stride(1) != 0) gradient = gradient.contiguous();
    }
    const std::vector<Run> runs = RunsOf(plan, gradients);
    int64_t covered = 0;
    for (const Run& run : runs) covered += run.first ? run.width : 0;
    at::Tensor pooled = covered == width ? at::empty({rows, width}, at::kFloat) : at::zeros({rows, width}, at::kFloat);
    float* const out = pooled.data_ptr<float>();
    at::parallel_for(0, rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        for (const Run& run : runs) Take(run, b, out + b * width + run.column);
      }
    });
    const at::Tensor embedded = context->needs_input_grad(2) ? EmbeddedGradient(plan, gradients, rows) : at::Tensor();
    return {pooled, at::Tensor(), embedded, at::Tensor()};
  }
};

}  // namespace

std::vector<at::Tensor> AssembleGroups(const EmbeddingPlan& plan, const at::Tensor& pooled, const at::Tensor& dense,
                                       const at::Tensor& embedded) {
  const Matrices matrices{pooled, dense, embedded.defined() ? embedded.to(at::kFloat) : embedded};
  if (c10::GradMode::is_enabled() && pooled.requires_grad() && pooled.is_cpu()) {
    const at::Tensor none = dense.narrow(1, 0, 0);
    return Assembly::apply(pooled, dense, embedded.defined() ? matrices.embedded : none, &plan);
  }
  const bool rows = !torch::jit::tracer::isTracing();
  std::vector<at::Tensor> groups;
  for (const Group& group : plan.groups)
    groups.push_back(rows ? AssembleRows(group, matrices) : Assemble(group, matrices));
  return groups;
}

}  // namespace anneal::models
