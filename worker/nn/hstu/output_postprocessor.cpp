#include "worker/nn/hstu/output_postprocessor.h"

#include <ATen/ATen.h>

#include "worker/nn/hstu/xavier.h"
#include "worker/nn/normalization.h"

namespace anneal::nn::hstu {
namespace {

class UnitNorm : public OutputPostprocessor {
 public:
  at::Tensor Forward(const at::Tensor& x, const at::Tensor&) override {
    return x / at::linalg_vector_norm(x, 2, {-1}, /*keepdim=*/true).clamp_min(1e-6);
  }
};

class Norm : public OutputPostprocessor {
 public:
  explicit Norm(int64_t width) : norm_(width) { RegisterModule("_layer_norm", norm_); }
  at::Tensor Forward(const at::Tensor& x, const at::Tensor&) override { return norm_.Forward(x); }

 private:
  LayerNorm norm_;
};

template <typename List>
at::Tensor RowOf(const List& list) {
  return at::tensor(std::vector<float>(list.begin(), list.end()), at::kFloat).unsqueeze(0);
}

class TimestampNorm : public OutputPostprocessor {
 public:
  TimestampNorm(const tzrec::protos::GRTimestampLayerNormPostprocessor& config, int64_t width)
      : norm_(width),
        combiner_(width + 2 * config.time_duration_period_units_size(), width),
        units_(RegisterBuffer("_period_units", RowOf(config.time_duration_period_units()))),
        periods_(RegisterBuffer("_units_per_period", RowOf(config.time_duration_units_per_period()))) {
    InitXavier(combiner_);
    RegisterModule("_layer_norm", norm_);
    RegisterModule("_time_feature_combiner", combiner_);
  }

  bool reads_times() const override { return true; }

  at::Tensor Forward(const at::Tensor& x, const at::Tensor& times) override {
    const at::Tensor of_period = at::remainder(at::floor(times.unsqueeze(1) / units_), periods_) / periods_;
    const at::Tensor angle = of_period * 2 * 3.14;
    const at::Tensor features = at::stack({at::cos(angle), at::sin(angle)}, 2).flatten(1);
    return norm_.Forward(combiner_.Forward(at::cat({x, features}, 1)));
  }

 private:
  LayerNorm norm_;
  Linear combiner_;
  at::Tensor units_, periods_;  ///< [1, n]
};

}  // namespace

std::unique_ptr<OutputPostprocessor> MakeOutputPostprocessor(const tzrec::protos::GROutputPostprocessor& config,
                                                             int64_t width) {
  if (config.has_timestamp_layernorm_postprocessor())
    return std::make_unique<TimestampNorm>(config.timestamp_layernorm_postprocessor(), width);
  if (config.has_layernorm_postprocessor()) return std::make_unique<Norm>(width);
  return std::make_unique<UnitNorm>();
}

}  // namespace anneal::nn::hstu
