// torch.optim.RMSprop without momentum or centring: v = alpha * v + (1 - alpha) * g^2; w -= lr * g / (sqrt(v) + eps).
#include "worker/config/shortest_decimal.h"
#include "worker/optim/torch_optimizers.h"

namespace anneal::optim {
namespace {

using nn::NamedTensor;

class Rmsprop : public DenseOptimizer {
 public:
  Rmsprop(const tzrec::protos::RMSpropOptimizer& config, std::vector<NamedTensor> parameters)
      : DenseOptimizer(std::move(parameters)),
        config_(config),
        squares_(StateLike(parameters_, 0)),
        steps_(StepCounters(parameters_)) {}

  void Step(double learning_rate) override {
    const double alpha = config::ShortestDecimal(config_.alpha()), eps = config::ShortestDecimal(config_.eps());
    const double decay = config::ShortestDecimal(config_.weight_decay());
    ForEachTouched(parameters_, decay, [&](size_t i, at::Tensor& parameter, at::Tensor& gradient) {
      steps_[i].add_(1);
      squares_[i].mul_(alpha).addcmul_(gradient, gradient, 1 - alpha);
      parameter.addcdiv_(gradient, squares_[i].sqrt().add_(eps), -learning_rate);
    });
  }

  std::vector<NamedTensor> State() override {
    return StateByKey(parameters_, {{"step", &steps_}, {"square_avg", &squares_}});
  }

  double base_learning_rate() const override { return config::ShortestDecimal(config_.lr()); }

 private:
  const tzrec::protos::RMSpropOptimizer config_;
  std::vector<at::Tensor> squares_, steps_;
};

}  // namespace

std::unique_ptr<DenseOptimizer> MakeRmsprop(const tzrec::protos::RMSpropOptimizer& config,
                                            std::vector<NamedTensor> parameters) {
  return std::make_unique<Rmsprop>(config, std::move(parameters));
}

}  // namespace anneal::optim
