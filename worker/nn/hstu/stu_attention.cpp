#include "worker/nn/hstu/stu_attention.h"

#include <ATen/ATen.h>
#include <ATen/TensorIndexing.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "worker/nn/autocast.h"
#include "worker/nn/parallel.h"

namespace anneal::nn::hstu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kMostScores = int64_t{1} << 22;
/// Of one head at a time. What is behind a block's last query need not be computed.
constexpr int64_t kMostQueries = 128;

/// Places [begin, end) of a row.
struct Places {
  int64_t begin = 0, end = 0;
};

/// A row of the batch.
struct Row {
  int64_t first = 0, length = 0, before_candidates = 0;
};

/// What token `p` of a row sees, in two runs that do not overlap.
struct Seen {
  Places one, two;
};

Seen SeenBy(int64_t p, const Row& row, const Visibility& rule) {
  const int64_t history_end = row.before_candidates;
  if (rule.sla_k1 > 0 || rule.sla_k2 > 0) {
    if (p >= history_end) return {{0, history_end}, {}};
    const int64_t global = std::max(rule.sla_k2, rule.contextual);
    return {{0, std::min(global, p + 1)}, {std::max(global, p - rule.sla_k1 + 1), p + 1}};
  }
  if (p < rule.contextual && p < history_end) return {{0, history_end}, {}};
  const int64_t end = std::min(p, history_end);
  const int64_t begin = end - rule.max_attn_len;
  return {{rule.max_attn_len > 0 && begin >= rule.contextual ? begin : 0, end}, {p, p + 1}};
}

std::vector<Row> RowsOf(const TokenLayout& layout) {
  const at::Tensor first = layout.first.contiguous(), length = layout.length.contiguous(),
                   before = layout.before_candidates().contiguous();
  std::vector<Row> rows(first.size(0));
  for (size_t b = 0; b < rows.size(); ++b) {
    rows[b] = {first.const_data_ptr<int64_t>()[b], length.const_data_ptr<int64_t>()[b],
               before.const_data_ptr<int64_t>()[b]};
  }
  std::erase_if(rows, [](const Row& row) { return row.length == 0; });
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.length > b.length; });
  return rows;
}

/// Rows that are padded to the first one's length together, and how many of its queries come at a time.
struct Chunk {
  const Row* rows = nullptr;
  int64_t count = 0, longest = 0, queries = 0;
};

std::vector<Chunk> ChunksOf(const std::vector<Row>& rows, int64_t heads) {
  std::vector<Chunk> chunks;
  for (size_t at = 0; at < rows.size();) {
    const int64_t longest = rows[at].length;
    const int64_t queries = std::clamp(kMostScores / (heads * longest), int64_t{1}, std::min(longest, kMostQueries));
    const int64_t most = std::max<int64_t>(kMostScores / (heads * longest * queries), 1);
    const int64_t count = std::min<int64_t>(most, static_cast<int64_t>(rows.size() - at));
    chunks.push_back({&rows[at], count, longest, queries});
    at += count;
  }
  return chunks;
}

/// Columns [column, column + heads * width) of the tokens -> [count * heads, longest, width], zeros behind each row.
at::Tensor Padded(const at::Tensor& tokens, int64_t column, int64_t width, int64_t heads, const Chunk& chunk) {
  at::Tensor padded = at::empty({chunk.count * heads, chunk.longest, width}, tokens.options());
  float* const out = padded.data_ptr<float>();
  const float* const from = tokens.const_data_ptr<float>() + column;
  const int64_t stride = tokens.stride(0);
  at::parallel_for(0, chunk.count * heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Row& row = chunk.rows[i / heads];
      const float* source = from + row.first * stride + (i % heads) * width;
      float* target = out + i * chunk.longest * width;
      for (int64_t t = 0; t < row.length; ++t, source += stride, target += width)
        std::memcpy(target, source, sizeof(float) * static_cast<size_t>(width));
      std::memset(target, 0, sizeof(float) * static_cast<size_t>((chunk.longest - row.length) * width));
    }
  });
  return padded;
}

/// The way back.
void Unpad(const at::Tensor& padded, int64_t column, int64_t heads, const Chunk& chunk, const at::Tensor& tokens) {
  const int64_t width = padded.size(2), stride = tokens.stride(0);
  const float* const from = padded.const_data_ptr<float>();
  float* const out = tokens.data_ptr<float>() + column;
  at::parallel_for(0, chunk.count * heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Row& row = chunk.rows[i / heads];
      const float* source = from + i * chunk.longest * width;
      float* target = out + row.first * stride + (i % heads) * width;
      for (int64_t t = 0; t < row.length; ++t, source += width, target += stride)
        std::memcpy(target, source, sizeof(float) * static_cast<size_t>(width));
    }
  });
}

/// Queries of a chunk, and the keys that any of them sees.
struct Block {
  int64_t query = 0, queries = 0, keys = 0;
};

/// `factor` where a query of the block sees a key, otherwise 0: [count, queries, keys].
at::Tensor Mask(const Chunk& chunk, const Block& block, const Visibility& rule, float factor) {
  at::Tensor mask = at::zeros({chunk.count, 1, block.queries, block.keys}, at::kFloat);
  float* const out = mask.data_ptr<float>();
  at::parallel_for(0, chunk.count * block.queries, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Row& row = chunk.rows[i / block.queries];
      const int64_t p = block.query + i % block.queries;
      if (p >= row.length) continue;
      const Seen seen = SeenBy(p, row, rule);
      for (const Places& places : {seen.one, seen.two}) {
        if (places.begin < places.end)
          std::fill(out + i * block.keys + places.begin, out + i * block.keys + places.end, factor);
      }
    }
  });
  return mask;
}

/// No token sees what is behind it, but for contextual ones.
std::vector<Block> BlocksOf(const Chunk& chunk, const Visibility& rule) {
  std::vector<Block> blocks;
  for (int64_t q = 0; q < chunk.longest; q += chunk.queries) {
    const int64_t end = std::min(q + chunk.queries, chunk.longest);
    blocks.push_back({q, end - q, q < rule.contextual ? chunk.longest : end});
  }
  return blocks;
}

/// Scores [count * heads, queries, keys] times what every head is masked by.
void Multiply(const at::Tensor& scores, const at::Tensor& mask, int64_t heads) {
  scores.view({mask.size(0), heads, mask.size(2), mask.size(3)}).mul_(mask);
}

/// A chunk's values, and its queries (times alpha) and keys.
struct Operands {
  Operands(const at::Tensor& tokens, const AttentionShape& shape, const Chunk& chunk) {
    const int64_t heads = shape.heads, queries = heads * shape.value_width, keys = queries + heads * shape.query_width;
    value = Padded(tokens, 0, shape.value_width, heads, chunk);
    query = Padded(tokens, queries, shape.query_width, heads, chunk).mul_(shape.alpha);
    key = Padded(tokens, keys, shape.query_width, heads, chunk);
  }

  at::Tensor Scores(const Block& block) const {
    return at::bmm(query.narrow(1, block.query, block.queries), key.narrow(1, 0, block.keys).transpose(1, 2));
  }

  at::Tensor value, query, key;
};

/// What backward needs besides the tokens.
struct Plan : torch::CustomClassHolder {
  Plan(const TokenLayout& layout, const AttentionShape& shape)
      : shape(shape), rows(RowsOf(layout)), chunks(ChunksOf(rows, shape.heads)) {}

  float factor() const { return static_cast<float>(1 / shape.divisor); }

  const AttentionShape shape;
  const std::vector<Row> rows;
  const std::vector<Chunk> chunks;
};

at::Tensor Forward(const at::Tensor& tokens, const Plan& plan) {
  const AttentionShape& shape = plan.shape;
  at::Tensor attended = at::empty({tokens.size(0), shape.heads * shape.value_width}, tokens.options());
  for (const Chunk& chunk : plan.chunks) {
    const Operands of(tokens, shape, chunk);
    at::Tensor sums = at::empty_like(of.value);
    for (const Block& block : BlocksOf(chunk, shape.visibility)) {
      at::Tensor scores = of.Scores(block);
      at::silu_(scores);
      Multiply(scores, Mask(chunk, block, shape.visibility, plan.factor()), shape.heads);
      at::Tensor of_block = sums.narrow(1, block.query, block.queries);
      at::bmm_out(of_block, scores, of.value.narrow(1, 0, block.keys));
    }
    Unpad(sums, 0, shape.heads, chunk, attended);
  }
  return attended;
}

at::Tensor Backward(const at::Tensor& gradient, const at::Tensor& tokens, const Plan& plan) {
  const AttentionShape& shape = plan.shape;
  at::Tensor of_tokens = at::empty_like(tokens);
  for (const Chunk& chunk : plan.chunks) {
    const Operands of(tokens, shape, chunk);
    const at::Tensor of_sums = Padded(gradient, 0, shape.value_width, shape.heads, chunk);
    at::Tensor value = at::zeros_like(of.value), query = at::empty_like(of.query), key = at::zeros_like(of.key);
    for (const Block& block : BlocksOf(chunk, shape.visibility)) {
      const at::Tensor mask = Mask(chunk, block, shape.visibility, plan.factor());
      const at::Tensor of_block = of_sums.narrow(1, block.query, block.queries);
      const at::Tensor scores = of.Scores(block);
      const at::Tensor weights = at::silu(scores);
      Multiply(weights, mask, shape.heads);
      value.narrow(1, 0, block.keys).baddbmm_(weights.transpose(1, 2), of_block);
      const at::Tensor of_weights = at::bmm(of_block, of.value.narrow(1, 0, block.keys).transpose(1, 2));
      Multiply(of_weights, mask, shape.heads);
      const at::Tensor of_scores = at::silu_backward(of_weights, scores);
      query.narrow(1, block.query, block.queries).copy_(at::bmm(of_scores, of.key.narrow(1, 0, block.keys)));
      key.narrow(1, 0, block.keys).baddbmm_(of_scores.transpose(1, 2), of.query.narrow(1, block.query, block.queries));
    }
    const int64_t queries = shape.heads * shape.value_width, keys = queries + shape.heads * shape.query_width;
    Unpad(value, 0, shape.heads, chunk, of_tokens);
    Unpad(query.mul_(shape.alpha), queries, shape.heads, chunk, of_tokens);
    Unpad(key, keys, shape.heads, chunk, of_tokens);
  }
  return of_tokens;
}

struct Attention : torch::autograd::Function<Attention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& tokens, c10::intrusive_ptr<Plan> plan) {
    context->save_for_backward({tokens});
    context->saved_data["plan"] = c10::IValue::make_capsule(plan);
    return Forward(tokens, *plan);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto plan = context->saved_data["plan"].toCapsule();
    return {Backward(gradients[0].to(at::kFloat).contiguous(), context->get_saved_variables()[0],
                     static_cast<const Plan&>(*plan)),
            at::Tensor()};
  }
};

/// SeenBy as a matrix: 1 where a token sees another one of its row, [B, T, T] float32.
at::Tensor MaskByIndex(const TokenLayout& layout, const Padding& padding, const Visibility& rule) {
  const at::Tensor p = padding.position.unsqueeze(0), k = p.unsqueeze(0);
  const at::Tensor history_end = layout.before_candidates().unsqueeze(1), is_candidate = p >= history_end;
  const auto seen = [&](const at::Tensor& begin, const at::Tensor& end) {
    return (k >= begin.unsqueeze(2)).logical_and(k < end.unsqueeze(2));
  };
  const at::Tensor zero = at::zeros_like(p), itself = p + 1;
  at::Tensor mask;
  if (rule.sla_k1 > 0 || rule.sla_k2 > 0) {
    const int64_t global = std::max(rule.sla_k2, rule.contextual);
    mask = seen(zero, itself.clamp_max(global))
               .logical_or(seen((itself - rule.sla_k1).clamp_min(global), itself))
               .logical_and(is_candidate.logical_not().unsqueeze(2))
               .logical_or(seen(zero, history_end).logical_and(is_candidate.unsqueeze(2)));
  } else {
    const at::Tensor contextual = (p < rule.contextual).logical_and(is_candidate.logical_not());
    const at::Tensor end = at::where(contextual, history_end, at::minimum(p, history_end));
    at::Tensor begin = at::zeros_like(end);
    if (rule.max_attn_len > 0) {
      const at::Tensor reach = at::minimum(p, history_end) - rule.max_attn_len;
      begin = at::where((reach >= rule.contextual).logical_and(contextual.logical_not()), reach, begin);
    }
    mask = seen(begin, end).logical_or(seen(p, itself));
  }
  return mask.logical_and(padding.inside.unsqueeze(2)).to(at::kFloat);
}

}  // namespace

at::Tensor Attend(const at::Tensor& values_queries_keys, const TokenLayout& layout, const AttentionShape& shape) {
  if (!values_queries_keys.is_cpu() || torch::jit::tracer::isTracing())
    return AttendByIndex(values_queries_keys, layout, shape);
  const NoAutocast exact(at::kCPU);
  return Attention::apply(values_queries_keys.to(at::kFloat).contiguous(), c10::make_intrusive<Plan>(layout, shape));
}

at::Tensor AttendByIndex(const at::Tensor& values_queries_keys, const TokenLayout& layout,
                         const AttentionShape& shape) {
  const NoAutocast exact(values_queries_keys.device().type());
  const Padding padding = PaddingOf(layout);
  const auto parts =
      values_queries_keys.to(at::kFloat)
          .split_with_sizes(
              {shape.heads * shape.value_width, shape.heads * shape.query_width, shape.heads * shape.query_width}, 1);
  const auto heads = [&](const at::Tensor& part, int64_t width) {  // [B, H, T, width]
    return at::index(part, {padding.index}).unflatten(2, {shape.heads, width}).transpose(1, 2);
  };
  const at::Tensor query = heads(parts[1], shape.query_width) * shape.alpha, key = heads(parts[2], shape.query_width);
  const at::Tensor mask = MaskByIndex(layout, padding, shape.visibility) / shape.divisor;
  const at::Tensor weights = at::silu(at::matmul(query, key.transpose(2, 3))) * mask.unsqueeze(1);
  const at::Tensor sums = at::matmul(weights, heads(parts[0], shape.value_width));
  return at::index(sums.transpose(1, 2).flatten(2), {padding.inside});
}

}  // namespace anneal::nn::hstu
