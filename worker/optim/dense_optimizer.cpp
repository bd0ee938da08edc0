#include "worker/optim/dense_optimizer.h"

#include "worker/config/error.h"
#include "worker/optim/torch_optimizers.h"

namespace anneal::optim {
namespace {

template <typename Config>
std::unique_ptr<DenseOptimizer> Make(const Config& config, std::vector<nn::NamedTensor> parameters,
                                     const std::string& where) {
  switch (config.optimizer_case()) {
    case Config::kSgdOptimizer:
      return MakeSgd(config.sgd_optimizer(), std::move(parameters));
    case Config::kAdagradOptimizer:
      return MakeAdagrad(config.adagrad_optimizer(), std::move(parameters));
    case Config::kAdamOptimizer:
      return MakeAdam(config.adam_optimizer(), std::move(parameters));
    case Config::kAdamwOptimizer:
      return MakeAdamW(config.adamw_optimizer(), std::move(parameters));
    case Config::kAdadeltaOptimizer:
      return MakeAdadelta(config.adadelta_optimizer(), std::move(parameters));
    case Config::kRmspropOptimizer:
      return MakeRmsprop(config.rmsprop_optimizer(), std::move(parameters));
    case Config::OPTIMIZER_NOT_SET:
      break;
  }
  throw ConfigError(where + ": no optimizer is set");
}

}  // namespace

std::unique_ptr<DenseOptimizer> MakeDenseOptimizer(const tzrec::protos::DenseOptimizer& config,
                                                   std::vector<nn::NamedTensor> parameters) {
  return Make(config, std::move(parameters), "train_config.dense_optimizer");
}

std::unique_ptr<DenseOptimizer> MakeDenseOptimizer(const tzrec::protos::PartOptimizer& config,
                                                   std::vector<nn::NamedTensor> parameters, const std::string& where) {
  return Make(config, std::move(parameters), where);
}

}  // namespace anneal::optim
