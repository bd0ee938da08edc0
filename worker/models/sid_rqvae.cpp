#include "worker/models/sid_rqvae.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "worker/losses/sid_losses.h"

namespace anneal::models {
namespace {

enum Output { kCodes, kInput, kDecoded, kEncoded, kLatents };

/// The MLP of hidden_dims, or of the decoder, whose layers come the other way.
tzrec::protos::MLP Hidden(const ModelInput& input, bool decoder) {
  const auto& dims = input.config.sid_rqvae().hidden_dims();
  std::vector<uint32_t> hidden(dims.begin(), dims.end());
  if (hidden.empty()) hidden = {static_cast<uint32_t>(std::max<int64_t>(input.FirstGroup().width / 2, 1))};
  if (decoder) std::reverse(hidden.begin(), hidden.end());
  tzrec::protos::MLP mlp;
  mlp.mutable_hidden_units()->Assign(hidden.begin(), hidden.end());
  return mlp;
}

nn::ResidualQuantizerSettings Quantizer(const tzrec::protos::SidRqvae& config) {
  nn::ResidualQuantizerSettings settings;
  settings.codebook.assign(config.codebook().begin(), config.codebook().end());
  settings.dim = config.embed_dim();
  settings.cosine = config.distance_type() == "cosine";
  settings.normalize_residuals = config.normalize_residuals();
  settings.gumbel = config.forward_mode() == "gumbel_softmax";
  settings.rotation = config.rotation_trick();
  const auto& sinkhorn = config.sinkhorn_config();
  if (sinkhorn.enabled()) settings.sinkhorn = {sinkhorn.iters(), sinkhorn.epsilon()};
  return settings;
}

}  // namespace

SidRqvae::SidRqvae(const ModelInput& input)
    : group_(input.FirstGroup().name),
      losses_(input.config.losses().begin(), input.config.losses().end()),
      encoder_(input.FirstGroup().width, Hidden(input, /*decoder=*/false)),
      encoder_output_(encoder_.output_dim(), input.config.sid_rqvae().embed_dim()),
      quantizer_(Quantizer(input.config.sid_rqvae())),
      decoder_(input.config.sid_rqvae().embed_dim(), Hidden(input, /*decoder=*/true)),
      decoder_output_(decoder_.output_dim(), input.FirstGroup().width) {
  Head codes;
  codes.output = "codes";
  codes.truth = Head::Truth::kNone;
  heads_ = {codes};
  for (const auto& loss : losses_) own_loss_names_.push_back(loss.has_recon_loss() ? "recon_loss" : "commitment_loss");
  own_metric_names_ = {"mse", "rel_loss", "unique_sid_ratio"};
  RegisterModule("_encoder.0", encoder_);
  RegisterModule("_encoder.1", encoder_output_);
  RegisterModule("_quantizer", quantizer_);
  RegisterModule("_decoder.0", decoder_);
  RegisterModule("_decoder.1", decoder_output_);
}

std::vector<at::Tensor> SidRqvae::Forward(const Groups& groups) {
  const at::Tensor& x = groups.at(group_);
  // Codes of 16-bit distances would be others.
  const at::Tensor encoded = encoder_output_.Forward(encoder_.Forward(x)).to(at::kFloat);
  const nn::ResidualQuantizer::Quantized quantized = quantizer_.Forward(encoded);
  std::vector<at::Tensor> outputs{quantized.codes, x, decoder_output_.Forward(decoder_.Forward(quantized.sum))};
  if (training()) outputs.insert(outputs.end(), {encoded, quantized.latents});
  return outputs;
}

std::vector<at::Tensor> SidRqvae::OwnLosses(const std::vector<at::Tensor>& outputs, const Targets&) const {
  std::vector<at::Tensor> losses;
  for (const auto& loss : losses_) {
    if (loss.has_recon_loss()) {
      losses.push_back(losses::MeanDistance(loss.recon_loss().recon_type(), outputs[kDecoded], outputs[kInput]));
      continue;
    }
    const auto& commitment = loss.commitment_loss();
    const auto& weights = commitment.latent_weight();
    losses.push_back(losses::CommitmentLoss(commitment.commitment_type(), outputs[kEncoded], outputs[kLatents],
                                            weights.empty() ? 1.0 : weights[0], weights.empty() ? 0.5 : weights[1]));
  }
  return losses;
}

std::vector<Model::Mean> SidRqvae::OwnMetrics(const std::vector<at::Tensor>& outputs) const {
  const at::Tensor x = outputs[kInput].to(at::kDouble), decoded = outputs[kDecoded].to(at::kDouble);
  const at::Tensor error = (x - decoded).abs(), larger = at::maximum(x.abs(), decoded.abs());
  const auto count = static_cast<double>(x.numel());
  const int64_t different = std::get<0>(at::unique_dim(outputs[kCodes].cpu(), 0)).size(0);
  return {{error.square().sum().item<double>(), count},
          {(error / (larger + 1e-4)).sum().item<double>(), count},
          {static_cast<double>(different) / static_cast<double>(x.size(0)), 1.0}};
}

}  // namespace anneal::models
