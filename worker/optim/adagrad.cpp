// torch.optim.Adagrad: sum += g^2; w -= lr * g / (sqrt(sum) + eps).
#include "worker/config/shortest_decimal.h"
#include "worker/optim/torch_optimizers.h"

namespace anneal::optim {
namespace {

using nn::NamedTensor;

class Adagrad : public DenseOptimizer {
 public:
  Adagrad(const tzrec::protos::AdagradOptimizer& config, std::vector<NamedTensor> parameters)
      : DenseOptimizer(std::move(parameters)),
        config_(config),
        sums_(StateLike(parameters_, config::ShortestDecimal(config.initial_accumulator_value()))),
        steps_(StepCounters(parameters_, config.fused())) {}

  void Step(double learning_rate) override {
    const double eps = config::ShortestDecimal(config_.eps()), decay = config::ShortestDecimal(config_.weight_decay());
    const bool fused = config_.fused();
    ForEachTouched(parameters_, fused ? 0 : decay, [&](size_t i, at::Tensor& parameter, at::Tensor& gradient) {
      steps_[i].add_(1);
      if (fused) {
        at::_fused_adagrad_({parameter}, {gradient}, {sums_[i]}, {steps_[i]}, learning_rate, /*lr_decay=*/0.0, decay,
                            eps, /*maximize=*/false);
        return;
      }
      sums_[i].addcmul_(gradient, gradient, 1);
      parameter.addcdiv_(gradient, sums_[i].sqrt().add_(eps), -learning_rate);
    });
  }

  std::vector<NamedTensor> State() override { return StateByKey(parameters_, {{"step", &steps_}, {"sum", &sums_}}); }

  double base_learning_rate() const override { return config::ShortestDecimal(config_.lr()); }

 private:
  const tzrec::protos::AdagradOptimizer config_;
  std::vector<at::Tensor> sums_, steps_;
};

}  // namespace

std::unique_ptr<DenseOptimizer> MakeAdagrad(const tzrec::protos::AdagradOptimizer& config,
                                            std::vector<NamedTensor> parameters) {
  return std::make_unique<Adagrad>(config, std::move(parameters));
}

}  // namespace anneal::optim
