// The MLP block of a config's `MLP` message (parity/models.md 4.1).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tzrec/module.pb.h"
#include "worker/nn/activation.h"
#include "worker/nn/linear.h"
#include "worker/nn/normalization.h"

namespace anneal::nn {

/// What the rows of an MLP's input are.
enum class Rows {
  kBatch,      ///< [B, in]
  kPositions,  ///< [B*T, in]: positions of sequences, which TorchEasyRec passes as [B, T, in]
};

/// One layer: Linear -> (BatchNorm1d | LayerNorm) -> activation -> dropout. State names "perceptron.<j>", counting
/// only the parts that exist; of positions, the two transposes that TorchEasyRec has around batch norm count too.
class Perceptron : public Module {
 public:
  Perceptron(int64_t in, int64_t out, const tzrec::protos::MLP& config, double dropout, Rows rows);
  at::Tensor Forward(const at::Tensor& x);
  bool mixes_rows() const;

 private:
  Linear linear_;
  std::unique_ptr<BatchNorm1d> batch_norm_;
  std::unique_ptr<LayerNorm> layer_norm_;
  std::unique_ptr<Activation> activation_;
  double dropout_;
};

/// x [rows, in] -> [rows, hidden_units.back()]. Throws ConfigError for use_bn with use_ln, no hidden_units, or a
/// dropout_ratio list of another length than hidden_units.
class Mlp : public Module {
 public:
  Mlp(int64_t in, const tzrec::protos::MLP& config, Rows rows = Rows::kBatch);
  at::Tensor Forward(at::Tensor x);
  /// What each layer returns; the last of them is Forward's.
  std::vector<at::Tensor> ForwardLayers(at::Tensor x);
  int64_t output_dim() const { return output_dim_; }
  /// A row's output depends on the others, by statistics of the batch.
  bool mixes_rows() const;

 private:
  std::vector<std::unique_ptr<Perceptron>> layers_;
  int64_t output_dim_ = 0;
};

}  // namespace anneal::nn
