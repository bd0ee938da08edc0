// Instance-guided masks of a feature vector. Wang et al., "MaskNet: Introducing Feature-Wise Multiplication to CTR
// Ranking Models by Instance-Guided Mask", DLP-KDD 2021; parity/models.md 4.2.
#pragma once

#include <memory>
#include <vector>

#include "tzrec/module.pb.h"
#include "worker/nn/linear.h"
#include "worker/nn/mlp.h"
#include "worker/nn/normalization.h"

namespace anneal::nn {

/// relu(norm(linear(x * mask))), the mask being made of the embeddings by two linear layers with a ReLU between them.
/// The layer between is int(width of x * reduction_ratio) wide, or aggregation_dim when that ratio is 0.
/// State names: mask_generator.{0,2}, ffn.{0,1}.
class MaskBlock : public Module {
 public:
  /// Throws ConfigError when the layer between would be of width 0.
  MaskBlock(int64_t in, int64_t mask_in, const tzrec::protos::MaskBlock& config);
  /// x [B, in], embeddings [B, mask_in] -> [B, hidden_dim]
  at::Tensor Forward(const at::Tensor& x, const at::Tensor& embeddings) const;

 private:
  int64_t aggregation_;
  Linear generator_in_, generator_out_, linear_;
  LayerNorm norm_;
};

/// e [B, in] -> [B, output_dim]. Parallel: the blocks' outputs of (norm(e), e) side by side. Serial: each block takes
/// the output of the one before, the first norm(e). Then top_mlp, if there is one.
/// State names: ln_emb, mask_blocks.<i>, top_mlp.
class MaskNet : public Module {
 public:
  MaskNet(int64_t in, const tzrec::protos::MaskNetModule& config);
  at::Tensor Forward(const at::Tensor& e);
  int64_t output_dim() const { return output_dim_; }

 private:
  bool parallel_;
  LayerNorm norm_;
  std::vector<std::unique_ptr<MaskBlock>> blocks_;
  std::unique_ptr<Mlp> top_;
  int64_t output_dim_;
};

}  // namespace anneal::nn
