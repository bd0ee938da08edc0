#include "worker/nn/sinkhorn.h"

#include <ATen/ATen.h>

namespace anneal::nn {

at::Tensor SinkhornCodes(const at::Tensor& distances, const SinkhornSettings& settings) {
  constexpr double kSmall = 1e-8;  // as the reference has it: far codes depend on it
  at::Tensor d = distances.detach();
  d = (d - d.mean()) / (d.std() + kSmall);
  at::Tensor q = at::exp((d - d.min()) * -settings.epsilon);
  q = q / q.sum();
  const auto rows = static_cast<double>(q.size(0)), codes = static_cast<double>(q.size(1));
  for (int64_t i = 0; i < settings.iterations; ++i) {
    q = q / (q.sum(0, /*keepdim=*/true) + kSmall) / codes;
    q = q / (q.sum(1, /*keepdim=*/true) + kSmall) / rows;
  }
  return q.argmax(1);
}

}  // namespace anneal::nn
