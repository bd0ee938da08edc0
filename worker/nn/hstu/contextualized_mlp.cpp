#include "worker/nn/hstu/contextualized_mlp.h"

#include <ATen/ATen.h>
#include <ATen/TensorIndexing.h>

#include "worker/nn/hstu/xavier.h"

namespace anneal::nn::hstu {
namespace {

class Simple : public ContextualizedMlp {
 public:
  Simple(int64_t in, int64_t hidden, int64_t out) : mlp_(in, hidden, out) { RegisterModule("_mlp", mlp_); }

  at::Tensor Forward(const at::Tensor& tokens, const TokenLayout&, const at::Tensor&) override {
    return mlp_.Forward(tokens);
  }

 private:
  SwishMlp mlp_;
};

class Parameterized : public ContextualizedMlp {
 public:
  Parameterized(const tzrec::protos::GRParameterizedContextualizedMLP& config, int64_t in, int64_t out,
                int64_t contextual_width)
      : in_(in),
        out_(out),
        dropout_(config.contextual_dropout_ratio()),
        compress_(contextual_width, config.hidden_dim()),
        matrix_(config.hidden_dim(), in * out),
        bias_(config.hidden_dim(), config.hidden_dim(), out, /*normed=*/false) {
    InitXavier(compress_);
    InitXavier(matrix_);
    RegisterModule("_dense_features_compress", compress_);
    RegisterModule("_attn_raw_weights.0", matrix_);
    norm_weight_ = RegisterParameter("_attn_weights_norm.weight", at::ones({in, out}));
    norm_bias_ = RegisterParameter("_attn_weights_norm.bias", at::zeros({in, out}));
    RegisterModule("_res_weights", bias_);
  }

  at::Tensor Forward(const at::Tensor& tokens, const TokenLayout& layout, const at::Tensor& contextual) override {
    const at::Tensor context = compress_.Forward(at::dropout(contextual, dropout_, training()));
    const at::Tensor matrix = at::layer_norm(matrix_.Forward(context).unflatten(1, {in_, out_}), {in_, out_},
                                             norm_weight_, norm_bias_, 1e-5, false);
    // For one matrix a row: [B, T, in] x [B, in, out].
    const Padding padding = PaddingOf(layout);
    const at::Tensor made = at::index(at::matmul(at::index(tokens, {padding.index}), matrix), {padding.inside});
    return made + layout.PerToken(bias_.Forward(context));
  }

 private:
  const int64_t in_, out_;
  const double dropout_;
  Linear compress_, matrix_;
  SwishMlp bias_;
  at::Tensor norm_weight_, norm_bias_;  ///< [in, out]
};

}  // namespace

at::Tensor SwishLayerNorm::Forward(const at::Tensor& x) const { return x * at::sigmoid(LayerNorm::Forward(x)); }

SwishMlp::SwishMlp(int64_t in, int64_t hidden, int64_t out, bool normed)
    : first_(in, hidden), swish_(hidden), second_(hidden, out) {
  InitXavier(first_);
  InitXavier(second_);
  RegisterModule("0", first_);
  RegisterModule("1", swish_);
  RegisterModule("2", second_);
  if (!normed) return;
  norm_ = std::make_unique<LayerNorm>(out);
  RegisterModule("3", *norm_);
}

at::Tensor SwishMlp::Forward(const at::Tensor& x) const {
  const at::Tensor y = second_.Forward(swish_.Forward(first_.Forward(x)));
  return norm_ ? norm_->Forward(y) : y;
}

std::unique_ptr<ContextualizedMlp> MakeContextualizedMlp(const tzrec::protos::GRContextualizedMLP& config, int64_t in,
                                                         int64_t out, int64_t contextual_width) {
  if (config.has_parameterized_mlp())
    return std::make_unique<Parameterized>(config.parameterized_mlp(), in, out, contextual_width);
  return std::make_unique<Simple>(in, config.simple_mlp().hidden_dim(), out);
}

}  // namespace anneal::nn::hstu
