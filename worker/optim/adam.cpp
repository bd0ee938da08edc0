// torch.optim.Adam and AdamW: m and v are running means of g and g^2, bias-corrected; w -= lr * m^ / (sqrt(v^) + eps).
// They differ in weight decay: in the gradient (Adam) or on the weight (AdamW).
#include <cmath>

#include "worker/optim/shortest_decimal.h"
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
        beta1_(ShortestDecimal(config.beta1())),
        beta2_(ShortestDecimal(config.beta2())),
        decay_(ShortestDecimal(config.weight_decay())),
        eps_(ShortestDecimal(config.eps())),
        averages_(StateLike(parameters_, 0)),
        squares_(StateLike(parameters_, 0)),
        steps_(StepCounters(parameters_)) {
    if (config.amsgrad()) maxima_ = StateLike(parameters_, 0);
  }

  void Step(double learning_rate) override {
    if (config_.fused()) return StepFused(learning_rate);
    // The operations of torch.optim's single-tensor path in its order: equal to the last bit, which the fused kernels
    // are not, and small beside the matrix products.
    ForEachTouched(parameters_, kDecoupled ? 0 : decay_, [&](size_t i, at::Tensor& parameter, at::Tensor& gradient) {
      const double step = steps_[i].add_(1).template item<float>();
      if (kDecoupled && decay_ != 0) parameter.mul_(1 - learning_rate * decay_);
      averages_[i].lerp_(gradient, 1 - beta1_);
      squares_[i].mul_(beta2_).addcmul_(gradient, gradient, 1 - beta2_);
      const double correction1 = 1 - std::pow(beta1_, step), correction2 = std::sqrt(1 - std::pow(beta2_, step));
      at::Tensor squares = squares_[i];
      if (config_.amsgrad()) squares = at::maximum_out(maxima_[i], maxima_[i], squares);
      parameter.addcdiv_(averages_[i], squares.sqrt().div_(correction2).add_(eps_), -learning_rate / correction1);
    });
  }

  std::vector<NamedTensor> State() override {
    return StateByKey(
        parameters_,
        {{"step", &steps_}, {"exp_avg", &averages_}, {"exp_avg_sq", &squares_}, {"max_exp_avg_sq", &maxima_}});
  }

  double base_learning_rate() const override { return ShortestDecimal(config_.lr()); }

 private:
  void StepFused(double learning_rate) {
    ForEachTouched(parameters_, 0, [&](size_t i, at::Tensor& parameter, at::Tensor& gradient) {
      steps_[i].add_(1);
      const auto maxima = maxima_.empty() ? std::vector<at::Tensor>() : std::vector<at::Tensor>{maxima_[i]};
      const std::vector<at::Tensor> parameters{parameter}, gradients{gradient}, averages{averages_[i]},
          squares{squares_[i]}, steps{steps_[i]};
      if constexpr (kDecoupled) {
        at::_fused_adamw_(parameters, gradients, averages, squares, maxima, steps, learning_rate, beta1_, beta2_,
                          decay_, eps_, config_.amsgrad(), /*maximize=*/false);
      } else {
        at::_fused_adam_(parameters, gradients, averages, squares, maxima, steps, learning_rate, beta1_, beta2_, decay_,
                         eps_, config_.amsgrad(), /*maximize=*/false);
      }
    });
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
