#include "worker/optim/dense_optimizer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>


#include "worker/config/error.h"
#include "worker/optim/shortest_decimal.h"

namespace anneal::optim {
namespace {

using nn::NamedTensor;

/// Tensors of the parameters that have a gradient in this step.
struct Touched {
  std::vector<at::Tensor> parameters, gradients;
  std::vector<size_t> indices;

  std::vector<at::Tensor> Pick(const std::vector<at::Tensor>& state) const {
    std::vector<at::Tensor> picked;
    picked.reserve(indices.size());
    for (size_t i : indices) picked.push_back(state[i]);
    return picked;
  }
};

Touched CollectTouched(const std::vector<NamedTensor>& parameters) {
  Touched touched;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const at::Tensor& gradient = parameters[i].tensor.grad();
    if (!gradient.defined()) continue;
    touched.parameters.push_back(parameters[i].tensor);
    touched.gradients.push_back(gradient);
    touched.indices.push_back(i);
  }
  return touched;
}

std::vector<at::Tensor> Like(const std::vector<NamedTensor>& parameters, double value) {
  std::vector<at::Tensor> state;
  for (const auto& parameter : parameters) state.push_back(at::full_like(parameter.tensor.detach(), value));
  return state;
}

// torch.optim keeps one float32 scalar per parameter; bias correction reads it.
std::vector<at::Tensor> Counters(const std::vector<NamedTensor>& parameters) {
  std::vector<at::Tensor> state;
  for (size_t i = 0; i < parameters.size(); ++i) state.push_back(at::zeros({}, at::kFloat));
  return state;
}

class Sgd : public DenseOptimizer {
 public:
  Sgd(const tzrec::protos::SGDOptimizer& config, std::vector<NamedTensor> parameters)
      : DenseOptimizer(std::move(parameters)), config_(config) {
    if (config.momentum() != 0) momentum_ = Like(parameters_, 0);
    started_ = Counters(parameters_);
  }

  void Step(double learning_rate) override {
    const c10::AutoGradMode no_grad(false);
    const Touched touched = CollectTouched(parameters_);
    // A parameter's first momentum step copies the gradient, its later ones decay the buffer.
    Touched fresh, running;
    for (size_t i = 0; i < touched.indices.size(); ++i) {
      Touched& part = started_[touched.indices[i]].item<float>() == 0 ? fresh : running;
      part.parameters.push_back(touched.parameters[i]);
      part.gradients.push_back(touched.gradients[i]);
      part.indices.push_back(touched.indices[i]);
    }
    Run(fresh, /*first=*/true, learning_rate);
    Run(running, /*first=*/false, learning_rate);
    for (size_t i : fresh.indices) started_[i].fill_(1);
  }

  std::vector<NamedTensor> State() override {
    std::vector<NamedTensor> state;
    for (size_t i = 0; i < momentum_.size(); ++i) {
      state.push_back({parameters_[i].name + "//momentum_buffer", momentum_[i]});
      state.push_back({parameters_[i].name + "//started", started_[i]});
    }
    return state;
  }

  double base_learning_rate() const override { return ShortestDecimal(config_.lr()); }

 private:
  void Run(const Touched& part, bool first, double learning_rate) {
    if (part.indices.empty()) return;
    at::_fused_sgd_(part.parameters, part.gradients,
                    momentum_.empty() ? std::vector<at::Tensor>() : part.Pick(momentum_),
                    ShortestDecimal(config_.weight_decay()), ShortestDecimal(config_.momentum()), learning_rate,
                    ShortestDecimal(config_.dampening()), config_.nesterov(), /*maximize=*/false, first);
  }

  const tzrec::protos::SGDOptimizer config_;
  std::vector<at::Tensor> momentum_, started_;  ///< started_: 1 once a parameter has been stepped
};

class Adagrad : public DenseOptimizer {
 public:
  Adagrad(const tzrec::protos::AdagradOptimizer& config, std::vector<NamedTensor> parameters)
      : DenseOptimizer(std::move(parameters)),
        config_(config),
        sums_(Like(parameters_, ShortestDecimal(config.initial_accumulator_value()))),
        steps_(Counters(parameters_)) {}

  void Step(double learning_rate) override {
    const c10::AutoGradMode no_grad(false);
    Touched touched = CollectTouched(parameters_);
    if (touched.indices.empty()) return;
    auto steps = touched.Pick(steps_);
    at::_foreach_add_(steps, 1);
    at::_fused_adagrad_(touched.parameters, touched.gradients, touched.Pick(sums_), steps, learning_rate,
                        /*lr_decay=*/0.0, ShortestDecimal(config_.weight_decay()), ShortestDecimal(config_.eps()),
                        /*maximize=*/false);
  }

  std::vector<NamedTensor> State() override {
    std::vector<NamedTensor> state;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      state.push_back({parameters_[i].name + "//step", steps_[i]});
      state.push_back({parameters_[i].name + "//sum", sums_[i]});
    }
    return state;
  }

  double base_learning_rate() const override { return ShortestDecimal(config_.lr()); }

 private:
  const tzrec::protos::AdagradOptimizer config_;
  std::vector<at::Tensor> sums_, steps_;
};

/// Adam and AdamW differ in the kernel only: weight decay in the gradient or on the weight.
template <typename Config, bool kDecoupled>
class Adam : public DenseOptimizer {
 public:
  Adam(const Config& config, std::vector<NamedTensor> parameters)
      : DenseOptimizer(std::move(parameters)),
        config_(config),
        averages_(Like(parameters_, 0)),
        squares_(Like(parameters_, 0)),
        steps_(Counters(parameters_)) {
    if (config.amsgrad()) maxima_ = Like(parameters_, 0);
  }

  void Step(double learning_rate) override {
    const c10::AutoGradMode no_grad(false);
    Touched touched = CollectTouched(parameters_);
    if (touched.indices.empty()) return;
    // The operations of torch.optim's single-tensor path in its order: equal to the last bit, which the fused kernels
    // are not, and small beside the matrix products.
    const double beta1 = ShortestDecimal(config_.beta1()), beta2 = ShortestDecimal(config_.beta2());
    const double decay = ShortestDecimal(config_.weight_decay()), eps = ShortestDecimal(config_.eps());
    for (size_t t = 0; t < touched.indices.size(); ++t) {
      const size_t i = touched.indices[t];
      at::Tensor parameter = touched.parameters[t], gradient = touched.gradients[t];
      const double step = steps_[i].add_(1).template item<float>();
      if (decay != 0) {
        if constexpr (kDecoupled) {
          parameter.mul_(1 - learning_rate * decay);
        } else {
          gradient = gradient.add(parameter, decay);
        }
      }
      averages_[i].lerp_(gradient, 1 - beta1);
      squares_[i].mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);
      const double correction1 = 1 - std::pow(beta1, step), correction2 = std::sqrt(1 - std::pow(beta2, step));
      at::Tensor squares = squares_[i];
      if (config_.amsgrad()) squares = at::maximum_out(maxima_[i], maxima_[i], squares);
      parameter.addcdiv_(averages_[i], squares.sqrt().div_(correction2).add_(eps), -learning_rate / correction1);
    }
  }

  std::vector<NamedTensor> State() override {
    std::vector<NamedTensor> state;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      const std::string& name = parameters_[i].name;
      state.push_back({name + "//step", steps_[i]});
      state.push_back({name + "//exp_avg", averages_[i]});
      state.push_back({name + "//exp_avg_sq", squares_[i]});
      if (!maxima_.empty()) state.push_back({name + "//max_exp_avg_sq", maxima_[i]});
    }
    return state;
  }

  double base_learning_rate() const override { return ShortestDecimal(config_.lr()); }

 private:
  const Config config_;
  std::vector<at::Tensor> averages_, squares_, maxima_, steps_;
};

}  // namespace

void DenseOptimizer::ZeroGradients() {
  for (auto& parameter : parameters_) parameter.tensor.mutable_grad().reset();
}

std::unique_ptr<DenseOptimizer> MakeDenseOptimizer(const tzrec::protos::DenseOptimizer& config,
                                                   std::vector<NamedTensor> parameters) {
  using tzrec::protos::AdamOptimizer;
  using tzrec::protos::AdamWOptimizer;
  if (config.has_sgd_optimizer()) return std::make_unique<Sgd>(config.sgd_optimizer(), std::move(parameters));
  if (config.has_adagrad_optimizer()) {
    return std::make_unique<Adagrad>(config.adagrad_optimizer(), std::move(parameters));
  }
  if (config.has_adam_optimizer()) {
    return std::make_unique<Adam<AdamOptimizer, false>>(config.adam_optimizer(), std::move(parameters));
  }
  if (config.has_adamw_optimizer()) {
    return std::make_unique<Adam<AdamWOptimizer, true>>(config.adamw_optimizer(), std::move(parameters));
  }
  const auto* oneof = config.GetDescriptor()->FindOneofByName("optimizer");
  const auto* field = config.GetReflection()->GetOneofFieldDescriptor(config, oneof);
  throw ConfigError(field ? "train_config.dense_optimizer." + field->name() + ": not supported yet"
                          : "train_config.dense_optimizer: no optimizer is set");
}

}  // namespace anneal::optim
