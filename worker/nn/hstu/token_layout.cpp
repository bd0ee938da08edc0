#include "worker/nn/hstu/token_layout.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

namespace anneal::nn::hstu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Taken : torch::autograd::Function<Taken> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& index) {
    context->save_for_backward({index});
    context->saved_data["rows"] = x.size(0);
    return x.index_select(0, index);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const at::Tensor& gradient = gradients[0];
    const int64_t rows = context->saved_data["rows"].toInt();
    const at::Tensor of_x = gradient.size(0) == rows ? at::empty({rows, gradient.size(1)}, gradient.options())
                                                     : at::zeros({rows, gradient.size(1)}, gradient.options());
    return {of_x.index_copy_(0, context->get_saved_variables()[0], gradient), at::Tensor()};
  }
};

}  // namespace

at::Tensor Starts(const at::Tensor& counts) { return counts.cumsum(0) - counts; }

at::Tensor CountUp(const at::Tensor& like) { return at::ones_like(like, at::kLong).cumsum(0) - 1; }

TokenLayout::TokenLayout(int64_t contextual, at::Tensor history, at::Tensor candidates)
    : contextual(contextual),
      history(std::move(history)),
      candidates(std::move(candidates)),
      length(this->history + this->candidates + contextual),
      first(Starts(length)),
      row(at::repeat_interleave(length)),
      position(CountUp(row) - PerToken(first)) {}

at::Tensor TokenLayout::before_candidates() const { return history + contextual; }

at::Tensor TokenLayout::PerToken(const at::Tensor& of_rows) const { return of_rows.index_select(0, row); }

Padding PaddingOf(const TokenLayout& layout) {
  // repeat_interleave is as long as the longest row in a trace, too.
  const at::Tensor position = CountUp(at::repeat_interleave(layout.length.max().unsqueeze(0)));
  const at::Tensor inside = position.unsqueeze(0) < layout.length.unsqueeze(1);
  const at::Tensor index = layout.first.unsqueeze(1) + position.unsqueeze(0);
  return {position, inside, at::where(inside, index, at::zeros_like(index))};
}

at::Tensor TakeRows(const at::Tensor& x, const at::Tensor& index) {
  if (c10::GradMode::is_enabled() && x.requires_grad()) return Taken::apply(x, index);
  return x.index_select(0, index);
}

at::Tensor JoinCandidates(const TokenLayout& layout, const at::Tensor& history, const at::Tensor& candidates) {
  const at::Tensor of_history = layout.PerToken(Starts(layout.history)) + layout.position;
  const at::Tensor of_candidates =
      layout.PerToken(layout.history.sum() + Starts(layout.candidates) - layout.history) + layout.position;
  const at::Tensor index = at::where(layout.position < layout.PerToken(layout.history), of_history, of_candidates);
  return TakeRows(at::cat({history, candidates}, 0), index);
}

}  // namespace anneal::nn::hstu
