// torch.optim.Adadelta (https://arxiv.org/abs/1212.5701): v = rho * v + (1 - rho) * g^2;
// delta = sqrt(u + eps) / sqrt(v + eps) * g; u = rho * u + (1 - rho) * delta^2; w -= lr * delta.
#include "worker/config/shortest_decimal.h"
#include "worker/optim/torch_optimizers.h"

namespace anneal::optim {
namespace {

using nn::NamedTensor;

class Adadelta : public DenseOptimizer {
 public:
  Adadelta(const tzrec::protos::AdadeltaOptimizer& config, std::vector<NamedTensor> parameters)
      : DenseOptimizer(std::move(parameters)),
        config_(config),
        squares_(StateLike(parameters_, 0)),
        deltas_(StateLike(parameters_, 0)),
        steps_(StepCounters(parameters_)) {}

  void Step(double learning_rate) override {
    const double rho = config::ShortestDecimal(config_.rho()), eps = config::ShortestDecimal(config_.eps());
    const double decay = config::ShortestDecimal(config_.weight_decay());
    ForEachTouched(parameters_, decay, [&](size_t i, at::Tensor& parameter, at::Tensor& gradient) {
      steps_[i].add_(1);
      squares_[i].mul_(rho).addcmul_(gradient, gradient, 1 - rho);
      const at::Tensor below = squares_[i].add(eps).sqrt_();
      const at::Tensor delta = deltas_[i].add(eps).sqrt_().div_(below).mul_(gradient);
      deltas_[i].mul_(rho).addcmul_(delta, delta, 1 - rho);
      parameter.add_(delta, -learning_rate);
    });
  }

  std::vector<NamedTensor> State() override {
    return StateByKey(parameters_, {{"step", &steps_}, {"square_avg", &squares_}, {"acc_delta", &deltas_}});
  }

  double base_learning_rate() const override { return config::ShortestDecimal(config_.lr()); }

 private:
  const tzrec::protos::AdadeltaOptimizer config_;
  std::vector<at::Tensor> squares_, deltas_, steps_;
};

}  // namespace

std::unique_ptr<DenseOptimizer> MakeAdadelta(const tzrec::protos::AdadeltaOptimizer& config,
                                             std::vector<NamedTensor> parameters) {
  return std::make_unique<Adadelta>(config, std::move(parameters));
}

}  // namespace anneal::optim
