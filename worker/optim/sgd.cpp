// torch.optim.SGD: buf = momentum * buf + (1 - dampening) * g, the first time buf = g; w -= lr * buf, or with Nesterov
// lr * (g + momentum * buf).
#include "worker/config/shortest_decimal.h"
#include "worker/optim/torch_optimizers.h"

namespace anneal::optim {
namespace {

using nn::NamedTensor;

class Sgd : public DenseOptimizer {
 public:
  Sgd(const tzrec::protos::SGDOptimizer& config, std::vector<NamedTensor> parameters)
      : DenseOptimizer(std::move(parameters)),
        config_(config),
        momentum_(config::ShortestDecimal(config.momentum())),
        dampening_(config::ShortestDecimal(config.dampening())),
        decay_(config::ShortestDecimal(config.weight_decay())) {
    if (momentum_ != 0) buffers_ = StateLike(parameters_, 0);
    started_ = StepCounters(parameters_);
  }

  void Step(double learning_rate) override {
    if (config_.fused()) return StepFused(learning_rate);
    ForEachTouched(parameters_, decay_, [&](size_t i, at::Tensor& parameter, at::Tensor& gradient) {
      if (momentum_ != 0) {
        if (started_[i].item<float>() == 0) {
          buffers_[i].copy_(gradient);
          started_[i].fill_(1);
        } else {
          buffers_[i].mul_(momentum_).add_(gradient, 1 - dampening_);
        }
        gradient = config_.nesterov() ? gradient.add(buffers_[i], momentum_) : buffers_[i];
      }
      parameter.add_(gradient, -learning_rate);
    });
  }

  std::vector<NamedTensor> State() override {
    std::vector<NamedTensor> state;
    for (size_t i = 0; i < buffers_.size(); ++i) {
      state.push_back({parameters_[i].name + "//momentum_buffer", buffers_[i]});
      // Ours: torch tells a first step by the missing buffer.
      state.push_back({parameters_[i].name + "//started", started_[i]});
    }
    return state;
  }

  double base_learning_rate() const override { return config::ShortestDecimal(config_.lr()); }

 private:
  void StepFused(double learning_rate) {
    ForEachTouched(parameters_, 0, [&](size_t i, at::Tensor& parameter, at::Tensor& gradient) {
      const bool first = started_[i].item<float>() == 0;
      const std::vector<at::Tensor> buffer =
          buffers_.empty() ? std::vector<at::Tensor>() : std::vector<at::Tensor>{buffers_[i]};
      at::_fused_sgd_({parameter}, {gradient}, buffer, decay_, momentum_, learning_rate, dampening_, config_.nesterov(),
                      /*maximize=*/false, first);
      started_[i].fill_(1);
    });
  }

  const tzrec::protos::SGDOptimizer config_;
  const double momentum_, dampening_, decay_;
  std::vector<at::Tensor> buffers_, started_;  ///< started_: 1 once a parameter has been stepped
};

}  // namespace

std::unique_ptr<DenseOptimizer> MakeSgd(const tzrec::protos::SGDOptimizer& config,
                                        std::vector<NamedTensor> parameters) {
  return std::make_unique<Sgd>(config, std::move(parameters));
}

}  // namespace anneal::optim
