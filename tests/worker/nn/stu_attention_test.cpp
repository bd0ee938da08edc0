// The attention of an STU in chunks of rows and queries against the same by stock operations on all rows at once.
#include "worker/nn/hstu/stu_attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace anneal::nn::hstu {
namespace {

/// Rows of no token to 400: more than a block of queries has, and more at a time than a chunk has.
TokenLayout SomeRows(int64_t rows, int64_t longest, int64_t contextual) {
  const at::Tensor history = at::randint(0, longest, {rows}, at::kLong),
                   candidates = at::randint(0, 30, {rows}, at::kLong);
  if (contextual > 0) return TokenLayout(contextual, history, candidates);
  const at::Tensor some = (at::arange(rows) % 5 > 0).to(at::kLong);
  return TokenLayout(contextual, history * some, candidates * some);
}

void ExpectAlike(const TokenLayout& layout, const AttentionShape& shape) {
  const int64_t width = shape.heads * (shape.value_width + 2 * shape.query_width);
  const at::Tensor tokens = at::randn({layout.row.size(0), width});
  const at::Tensor ours = tokens.clone().requires_grad_(), stock = tokens.clone().requires_grad_();
  const at::Tensor attended = Attend(ours, layout, shape), wanted = AttendByIndex(stock, layout, shape);
  ASSERT_EQ(attended.sizes(), wanted.sizes());
  EXPECT_TRUE(at::allclose(attended, wanted, 1e-4, 1e-5)) << (attended - wanted).abs().max();
  const at::Tensor seed = at::randn(wanted.sizes());
  (attended * seed).sum().backward();
  (wanted * seed).sum().backward();
  EXPECT_TRUE(at::allclose(ours.grad(), stock.grad(), 1e-4, 1e-5)) << (ours.grad() - stock.grad()).abs().max();
}

TEST(StuAttention, ChunksAreAsAllRowsAtOnce) {
  at::manual_seed(5);
  for (const Visibility& rule : {Visibility{}, Visibility{3}, Visibility{3, 50}, Visibility{0, 7}, Visibility{2, 0, 20},
                                 Visibility{2, 0, 0, 140}, Visibility{5, 9, 3, 2}}) {
    SCOPED_TRACE(testing::Message() << rule.contextual << " " << rule.max_attn_len << " " << rule.sla_k1 << " "
                                    << rule.sla_k2);
    ExpectAlike(SomeRows(70, 370, rule.contextual), {2, 6, 4, 0.3, 40, rule});
    ExpectAlike(SomeRows(9, 12, rule.contextual), {3, 2, 5, 1.5, 7, rule});
  }
}

TEST(StuAttention, NoTokens) {
  const at::Tensor none = at::zeros({4}, at::kLong);
  const at::Tensor tokens = at::empty({0, 14}).requires_grad_();
  const at::Tensor attended = Attend(tokens, TokenLayout(0, none, none), {1, 4, 5, 1, 1, {}});
  EXPECT_EQ(attended.sizes(), (std::vector<int64_t>{0, 4}));
  attended.sum().backward();
}

}  // namespace
}  // namespace anneal::nn::hstu
