// Cross networks: products of the input with itself, of bounded degree.
#pragma once

#include <memory>
#include <vector>

#include "worker/nn/linear.h"

namespace anneal::nn {

/// x0 = x; `layers` times x <- (w_i . x) x0 + b_i + x; x [B, D] -> [B, D]. Wang et al., "Deep & Cross Network for Ad
/// Click Predictions", ADKDD 2017; parity/models.md 4.2. State names: w.<i>.weight [1, D] Xavier-uniform, b.<i> [D]
/// zeros.
class Cross : public Module {
 public:
  Cross(int64_t width, int layers);
  at::Tensor Forward(at::Tensor x) const;

 private:
  std::vector<std::unique_ptr<Linear>> weights_;
  std::vector<at::Tensor> biases_;
};

/// x0 = x; `layers` times x <- x0 * (V_i (U_i x) + b_i) + x, V_i U_i of rank `rank`; x [B, D] -> [B, D]. Wang et al.,
/// "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank Systems", WWW 2021;
/// parity/models.md 4.2. State names: u_kernels.<i>.weight [rank, D], v_kernels.<i>.{weight [D, rank], bias [D]}.
class CrossV2 : public Module {
 public:
  CrossV2(int64_t width, int layers, int64_t rank);
  at::Tensor Forward(at::Tensor x) const;

 private:
  std::vector<std::unique_ptr<Linear>> u_, v_;
};

}  // namespace anneal::nn
