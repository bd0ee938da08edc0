// torch.optim.Adam and AdamW: m and v are running means of g and g^2, bias-corrected; w -= lr * m^ / (sqrt(v^) + eps).
// They differ in weight decay: in the gradient (Adam) or on the weight (AdamW).
#include <cmath>

#include "worker/config/shortest_decimal.h"
#include "worker/optim/torch_optimizers.h"

namespace anneal::optim {
namespace {

using nn::NamedTensor;

template <typename Config, bool kDecoupled>
class Adam : public DenseOptimizer {
 public:
  Adam(const Config& config, std::vector<NamedTensor> parameters)
      : DenseOptimizer(std::move(parameters)),
        config_(config),
        beta1_(config::ShortestDecimal(config.beta1())),
        beta2_(config::ShortestDecimal(config.beta2())),
        decay_(config::ShortestDecimal(config.weight_decay())),
        eps_(config::ShortestDecimal(config.eps())),
        averages_(StateLike(parameters_, 0)),
        squares_(StateLike(parameters_, 0)),
        steps_(StepCounters(parameters_, config.fused())) {
    if (config.amsgrad()) maxima_ = StateLike(parameters_, 0);
  }

  void Step(double learning_rate) override {
    Touched touched;
    int64_t elements = 0;
    ForEachTouched(parameters_, 0, [&](size_t i, at::Tensor& parameter, at::Tensor& gradient) {
      touched.parameters.push_back(parameter);
      touched.gradients.push_back(gradient);
      touched.averages.push_back(averages_[i]);
      touched.squares.push_back(squares_[i]);
      if (!maxima_.empty()) touched.maxima.push_back(maxima_[i]);
      touched.steps.push_back(steps_[i]);
      elements += parameter.numel();
      // One at a time on the host, where a parameter stays in the cache; on a device until they are many elements.
      if (elements >= (parameter.device().is_cpu() ? 0 : kTogether)) {
        StepTogether(touched, learning_rate);
        touched = {};
        elements = 0;
      }
    });
    if (!touched.parameters.empty()) StepTogether(touched, learning_rate);
  }

  std::vector<NamedTensor> State() override {
    return StateByKey(
        parameters_,
        {{"step", &steps_}, {"exp_avg", &averages_}, {"exp_avg_sq", &squares_}, {"max_exp_avg_sq", &maxima_}});
  }

  double base_learning_rate() const override { return config::ShortestDecimal(config_.lr()); }

 private:
  /// What a step changes: the parameters with a gradient and their state.
  struct Touched {
    std::vector<at::Tensor> parameters, gradients, averages, squares, maxima, steps;
  };

  static constexpr int64_t kTogether = 1 << 24;  ///< elements: 64 MiB

  void StepTogether(Touched& touched, double learning_rate) {
    const c10::AutoGradMode no_grad(false);
    at::_foreach_add_(touched.steps, 1);
    config_.fused() ? StepFused(touched, learning_rate) : StepForEach(touched, learning_rate);
  }

  // The operations of torch.optim's single-tensor and foreach paths in their order: equal to the last bit, which the
  // fused kernels are not. On a device each is one kernel for many parameters.
  void StepForEach(Touched& touched, double learning_rate) {
    auto& [parameters, gradients, averages, squares, maxima, steps] = touched;
    if (decay_ != 0 && kDecoupled) at::_foreach_mul_(parameters, 1 - learning_rate * decay_);
    if (decay_ != 0 && !kDecoupled) gradients = at::_foreach_add(gradients, parameters, decay_);
    at::_foreach_lerp_(averages, gradients, 1 - beta1_);
    at::_foreach_mul_(squares, beta2_);
    at::_foreach_addcmul_(squares, gradients, gradients, 1 - beta2_);
    if (!maxima.empty()) at::_foreach_maximum_(maxima, squares);
    std::vector<at::Scalar> strides, corrections;
    for (const at::Tensor& counter : steps) {
      const double step = counter.item<float>();
      strides.emplace_back(-learning_rate / (1 - std::pow(beta1_, step)));
      corrections.emplace_back(std::sqrt(1 - std::pow(beta2_, step)));
    }
    const std::vector<at::Tensor> divisors = at::_foreach_sqrt(maxima.empty() ? squares : maxima);
    at::_foreach_div_(divisors, corrections);
    at::_foreach_add_(divisors, eps_);
    at::_foreach_addcdiv_(parameters, averages, divisors, strides);
  }

  void StepFused(const Touched& touched, double learning_rate) {
    const auto& [parameters, gradients, averages, squares, maxima, steps] = touched;
    if constexpr (kDecoupled) {
      at::_fused_adamw_(parameters, gradients, averages, squares, maxima, steps, learning_rate, beta1_, beta2_, decay_,
                        eps_, config_.amsgrad(), /*maximize=*/false);
    } else {
      at::_fused_adam_(parameters, gradients, averages, squares, maxima, steps, learning_rate, beta1_, beta2_, decay_,
                       eps_, config_.amsgrad(), /*maximize=*/false);
    }
  }

  const Config config_;
  const double beta1_, beta2_, decay_, eps_;
  std::vector<at::Tensor> averages_, squares_, maxima_, steps_;
};

}  // namespace

std::unique_ptr<DenseOptimizer> MakeAdam(const tzrec::protos::AdamOptimizer& config,
                                         std::vector<NamedTensor> parameters) {
  return std::make_unique<Adam<tzrec::protos::AdamOptimizer, false>>(config, std::move(parameters));
}

std::unique_ptr<DenseOptimizer> MakeAdamW(const tzrec::protos::AdamWOptimizer& config,
                                          std::vector<NamedTensor> parameters) {
  return std::make_unique<Adam<tzrec::protos::AdamWOptimizer, true>>(config, std::move(parameters));
}

}  // namespace anneal::optim
