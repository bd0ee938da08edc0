#include "worker/nn/mlp.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "worker/config/error.h"

namespace anneal::nn {

Perceptron::Perceptron(int64_t in, int64_t out, const tzrec::protos::MLP& config, double dropout, Rows rows)
    : linear_(in, out, !config.use_bn() && config.bias()),
      activation_(MakeActivation(config.activation(), out)),
      dropout_(dropout) {
  int part = 0;
  auto name = [&part] { return "perceptron." + std::to_string(part++); };
  RegisterModule(name(), linear_);
  if (config.use_bn()) {
    batch_norm_ = std::make_unique<BatchNorm1d>(out);
    part += rows == Rows::kPositions;
    RegisterModule(name(), *batch_norm_);
    part += rows == Rows::kPositions;
  } else if (config.use_ln()) {
    layer_norm_ = std::make_unique<LayerNorm>(out);
    RegisterModule(name(), *layer_norm_);
  }
  if (activation_) RegisterModule(name(), *activation_);
}

at::Tensor Perceptron::Forward(const at::Tensor& x) {
  const bool fuse = activation_ && activation_->is_relu() && !batch_norm_ && !layer_norm_;
  at::Tensor h = fuse ? linear_.ForwardRelu(x) : linear_.Forward(x);
  if (batch_norm_) h = batch_norm_->Forward(h);
  if (layer_norm_) h = layer_norm_->Forward(h);
  if (activation_ && !fuse) h = activation_->Forward(h);
  return dropout_ > 0 && training() ? at::dropout(h, dropout_, true) : h;
}

bool Perceptron::mixes_rows() const {
  return training() && (batch_norm_ || (activation_ && activation_->mixes_rows()));
}

Mlp::Mlp(int64_t in, const tzrec::protos::MLP& config, Rows rows) {
  if (config.hidden_units_size() == 0) throw ConfigError("MLP: hidden_units is empty");
  if (config.use_bn() && config.use_ln()) throw ConfigError("MLP: use_bn and use_ln exclude each other");
  const int layers = config.hidden_units_size(), ratios = config.dropout_ratio_size();
  if (ratios > 1 && ratios != layers) {
    throw ConfigError("MLP: dropout_ratio has " + std::to_string(ratios) + " values for " + std::to_string(layers) +
                      " hidden_units");
  }
  for (int i = 0; i < layers; ++i) {
    const double dropout = ratios == 0 ? 0.0 : config.dropout_ratio(ratios == 1 ? 0 : i);
    layers_.push_back(std::make_unique<Perceptron>(in, config.hidden_units(i), config, dropout, rows));
    RegisterModule("mlp." + std::to_string(i), *layers_.back());
    in = config.hidden_units(i);
  }
  output_dim_ = in;
}

at::Tensor Mlp::Forward(at::Tensor x) {
  for (auto& layer : layers_) x = layer->Forward(x);
  return x;
}

std::vector<at::Tensor> Mlp::ForwardLayers(at::Tensor x) {
  std::vector<at::Tensor> outputs;
  for (auto& layer : layers_) outputs.push_back(x = layer->Forward(x));
  return outputs;
}

bool Mlp::mixes_rows() const {
  return std::any_of(layers_.begin(), layers_.end(), [](const auto& layer) { return layer->mixes_rows(); });
}

}  // namespace anneal::nn
