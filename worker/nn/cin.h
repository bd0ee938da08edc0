// Compressed interaction network. Lian et al., "xDeepFM: Combining Explicit and Implicit Feature Interactions for
// Recommender Systems", KDD 2018; parity/models.md 4.2.
#pragma once

#include <vector>

#include "worker/nn/module.h"

namespace anneal::nn {

/// Layer i makes maps out of all products, column by column of the embeddings, of a map of the layer before (of the
/// input at first) and a field of the input: a convolution of width 1 with bias, no activation. Its output is the sum
/// of each map over the columns: x [B, fields*dim] (fields side by side) -> [B, sum of maps].
/// State names: cin_layers.<i>.{weight [maps, maps before * fields, 1], bias}, the map before being the slower index.
class Cin : public Module {
 public:
  Cin(int64_t fields, int64_t dim, const std::vector<int64_t>& maps);
  at::Tensor Forward(const at::Tensor& x) const;
  int64_t output_dim() const { return output_dim_; }

 private:
  int64_t fields_, dim_, output_dim_ = 0;
  std::vector<at::Tensor> weights_, biases_;
};

}  // namespace anneal::nn
