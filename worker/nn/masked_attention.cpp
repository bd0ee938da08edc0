#include "worker/nn/masked_attention.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"

namespace anneal::nn {

Sequence Truncate(const Sequence& input, int64_t positions) {
  if (positions <= 0) return input;
  return {input.query, input.sequence.slice(1, 0, positions), input.length.clamp_max(positions),
          input.mask.slice(1, 0, positions)};
}

at::Tensor WidenQuery(const at::Tensor& query, int64_t query_width, int64_t sequence_width) {
  return query_width == sequence_width ? query : at::constant_pad_nd(query, {0, sequence_width - query_width});
}

at::Tensor MaskedSoftmax(const at::Tensor& scores, const at::Tensor& mask) {
  constexpr double kMasked = -2147483647.0;  // TorchEasyRec's number, which float16 could not hold
  return at::softmax(scores.to(at::kFloat).masked_fill(mask.logical_not(), kMasked), -1);
}

at::Tensor Attend(const at::Tensor& scores, const Sequence& input) {
  return at::matmul(MaskedSoftmax(scores, input.mask).unsqueeze(1), input.sequence).squeeze(1);
}

void RequireQuery(int64_t query_width, int64_t sequence_width, const std::string& where) {
  if (query_width == 0) throw ConfigError(where + ": there is no query; the group needs a feature that is no sequence");
  if (query_width > sequence_width) {
    throw ConfigError(where + ": the query is " + std::to_string(query_width) + " wide, the sequence only " +
                      std::to_string(sequence_width));
  }
}

}  // namespace anneal::nn
