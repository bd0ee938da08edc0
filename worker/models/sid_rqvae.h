// Semantic ids: items as a few codes that an autoencoder learns. Rajput et al., "Recommender Systems with Generative
// Retrieval", NeurIPS 2023; parity/models.md 15.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/models/model.h"
#include "worker/nn/mlp.h"
#include "worker/nn/residual_quantizer.h"

namespace anneal::models {

/// x (the first group) -> encoder -> residual quantizer -> decoder -> x again. Encoder and decoder are MLPs of
/// hidden_dims (default: half of x) and their reverse, with ReLU, and a Linear each. The prediction is `codes`
/// [B, layers] int64; labels are not read. Losses: recon_loss, how far the decoder's result is from x, and
/// commitment_loss. Metrics, which are fixed: mse, rel_loss = mean(|t - p| / (max(|t|, |p|) + 1e-4)) of x and the
/// decoder's result, unique_sid_ratio = different rows of codes in a batch / its rows.
/// State names: _encoder.<0, 1>, _decoder.<0, 1>, _quantizer.
class SidRqvae : public Model {
 public:
  explicit SidRqvae(const ModelInput& input);
  /// codes, x, the decoder's result; in training also the encoder's result and the quantizer's latents.
  std::vector<at::Tensor> Forward(const Groups& groups) override;
  std::vector<at::Tensor> OwnLosses(const std::vector<at::Tensor>& outputs, const Targets& targets) const override;
  std::vector<Mean> OwnMetrics(const std::vector<at::Tensor>& outputs) const override;

 private:
  std::string group_;
  std::vector<tzrec::protos::LossConfig> losses_;
  nn::Mlp encoder_;
  nn::Linear encoder_output_;
  nn::ResidualQuantizer quantizer_;
  nn::Mlp decoder_;
  nn::Linear decoder_output_;
};

}  // namespace anneal::models
