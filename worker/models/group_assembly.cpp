#include "worker/models/group_assembly.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>

#include "worker/nn/parallel.h"

namespace anneal::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kRowsPerTask = 256;

at::Tensor Assemble(const Group& group, const at::Tensor& pooled, const at::Tensor& dense) {
  std::vector<at::Tensor> parts;
  parts.reserve(group.blocks.size());
  for (const Block& block : group.blocks) {
    parts.push_back((block.pooled ? pooled : dense).narrow(1, block.column, block.width));
  }
  return parts.size() == 1 ? parts.front() : at::cat(parts, 1);
}

/// A run of columns of a group's gradient on its way to the pooled gradient.
struct Run {
  const float* from = nullptr;
  int64_t stride = 0, column = 0, width = 0;
  bool first = true;  ///< nothing was written to these columns before: copy, do not add
};

/// Later groups come first, as autograd would add them.
std::vector<Run> RunsOf(const EmbeddingPlan& plan, const variable_list& gradients) {
  std::vector<Run> runs;
  std::vector<bool> written(plan.lookups.size(), false);
  for (size_t g = plan.groups.size(); g-- > 0;) {
    if (!gradients[g].defined()) continue;
    int64_t column = 0;
    for (const Block& block : plan.groups[g].blocks) {
      for (size_t l = 0; block.pooled && l < plan.lookups.size(); ++l) {
        const Lookup& lookup = plan.lookups[l];
        if (lookup.column < block.column || lookup.column >= block.column + block.width) continue;
        const float* from = gradients[g].const_data_ptr<float>() + column + lookup.column - block.column;
        Run run{from, gradients[g].stride(0), lookup.column, lookup.dim, !written[l]};
        written[l] = true;
        Run* last = runs.empty() ? nullptr : &runs.back();
        if (last && last->first == run.first && last->from + last->width == from &&
            last->column + last->width == run.column) {
          last->width += run.width;
        } else {
          runs.push_back(run);
        }
      }
      column += block.width;
    }
  }
  return runs;
}

struct Assembly : torch::autograd::Function<Assembly> {
  static variable_list forward(AutogradContext* context, const at::Tensor& pooled, const at::Tensor& dense,
                               const EmbeddingPlan* plan) {
    context->set_materialize_grads(false);
    context->saved_data["plan"] = reinterpret_cast<int64_t>(plan);
    context->saved_data["rows"] = pooled.size(0);
    variable_list groups;
    for (const Group& group : plan->groups) groups.push_back(Assemble(group, pooled, dense));
    return groups;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto& plan = *reinterpret_cast<const EmbeddingPlan*>(context->saved_data["plan"].toInt());
    const int64_t rows = context->saved_data["rows"].toInt(), width = plan.pooled_width;
    for (at::Tensor& gradient : gradients) {
      if (gradient.defined()) gradient = gradient.to(at::kFloat).contiguous();
    }
    const std::vector<Run> runs = RunsOf(plan, gradients);
    int64_t covered = 0;
    for (const Run& run : runs) covered += run.first ? run.width : 0;
    at::Tensor pooled = covered == width ? at::empty({rows, width}, at::kFloat) : at::zeros({rows, width}, at::kFloat);
    float* const out = pooled.data_ptr<float>();
    at::parallel_for(0, rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        for (const Run& run : runs) {
          const float* __restrict from = run.from + b * run.stride;
          float* __restrict target = out + b * width + run.column;
          if (run.first) {
            std::memcpy(target, from, sizeof(float) * static_cast<size_t>(run.width));
          } else {
#pragma omp simd
            for (int64_t d = 0; d < run.width; ++d) target[d] += from[d];
          }
        }
      }
    });
    return {pooled, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

std::vector<at::Tensor> AssembleGroups(const EmbeddingPlan& plan, const at::Tensor& pooled, const at::Tensor& dense) {
  if (c10::GradMode::is_enabled() && pooled.requires_grad() && pooled.is_cpu())
    return Assembly::apply(pooled, dense, &plan);
  std::vector<at::Tensor> groups;
  for (const Group& group : plan.groups) groups.push_back(Assemble(group, pooled, dense));
  return groups;
}

}  // namespace anneal::models
