// pipeline.config's sparse_optimizer as the kernels take it.
#include "worker/config/error.h"
#include "worker/config/shortest_decimal.h"
#include "worker/embedding/sharded_embedding.h"

namespace anneal::embedding {
namespace {

using tzrec::protos::SparseOptimizer;

template <typename Message>
void TakeClipping(const Message& message, OptimizerSpec& spec) {
  if (message.gradient_clipping()) spec.max_gradient = message.max_gradient();
}

template <typename Message>
OptimizerSpec AdamLike(OptimizerType type, const Message& message) {
  OptimizerSpec spec;
  spec.type = type;
  spec.beta1 = message.beta1();
  spec.beta2 = message.beta2();
  spec.weight_decay = message.weight_decay();
  TakeClipping(message, spec);
  return spec;
}

WeightDecayMode Mode(tzrec::protos::WeightDecayMode mode) {
  if (mode == tzrec::protos::L2) return WeightDecayMode::kL2;
  return mode == tzrec::protos::DECOUPLE ? WeightDecayMode::kDecouple : WeightDecayMode::kNone;
}

const google::protobuf::FieldDescriptor* Chosen(const SparseOptimizer& config) {
  return config.GetReflection()->GetOneofFieldDescriptor(config, config.GetDescriptor()->FindOneofByName("optimizer"));
}

}  // namespace

OptimizerSpec MakeOptimizerSpec(const SparseOptimizer& config) {
  OptimizerSpec spec;
  switch (config.optimizer_case()) {
    case SparseOptimizer::kSgdOptimizer:
      spec.type = OptimizerType::kSgd;
      TakeClipping(config.sgd_optimizer(), spec);
      return spec;
    case SparseOptimizer::kAdagradOptimizer:
      spec.type = OptimizerType::kAdagrad;
      spec.initial_accumulator = config.adagrad_optimizer().initial_accumulator_value();
      TakeClipping(config.adagrad_optimizer(), spec);
      return spec;
    case SparseOptimizer::kRowwiseAdagradOptimizer:
      spec.type = OptimizerType::kRowwiseAdagrad;
      spec.weight_decay = config.rowwise_adagrad_optimizer().weight_decay();
      spec.weight_decay_mode = Mode(config.rowwise_adagrad_optimizer().weight_decay_mode());
      TakeClipping(config.rowwise_adagrad_optimizer(), spec);
      return spec;
    case SparseOptimizer::kAdamOptimizer:
      return AdamLike(OptimizerType::kAdam, config.adam_optimizer());
    case SparseOptimizer::kPartialRowwiseAdamOptimizer:
      return AdamLike(OptimizerType::kPartialRowwiseAdam, config.partial_rowwise_adam_optimizer());
    case SparseOptimizer::kLambOptimizer:
      return AdamLike(OptimizerType::kLamb, config.lamb_optimizer());
    case SparseOptimizer::kPartialRowwiseLambOptimizer:
      return AdamLike(OptimizerType::kPartialRowwiseLamb, config.partial_rowwise_lamb_optimizer());
    case SparseOptimizer::kLarsSgdOptimizer:
      spec.type = OptimizerType::kLarsSgd;
      spec.momentum = config.lars_sgd_optimizer().momentum();
      spec.weight_decay = config.lars_sgd_optimizer().weight_decay();
      TakeClipping(config.lars_sgd_optimizer(), spec);
      return spec;
    case SparseOptimizer::kAdadeltaOptimizer:
      spec.type = OptimizerType::kAdadelta;
      spec.beta1 = config.adadelta_optimizer().rho();
      spec.eps = config.adadelta_optimizer().eps();
      spec.weight_decay = config.adadelta_optimizer().weight_decay();
      TakeClipping(config.adadelta_optimizer(), spec);
      return spec;
    case SparseOptimizer::kRmspropOptimizer:
      spec.type = OptimizerType::kRmsprop;
      spec.beta1 = config.rmsprop_optimizer().alpha();
      spec.eps = config.rmsprop_optimizer().eps();
      spec.weight_decay = config.rmsprop_optimizer().weight_decay();
      TakeClipping(config.rmsprop_optimizer(), spec);
      return spec;
    case SparseOptimizer::OPTIMIZER_NOT_SET:
      break;
  }
  throw ConfigError("train_config.sparse_optimizer: no optimizer is set");
}

std::string SparseOptimizerName(const SparseOptimizer& config) {
  const auto* field = Chosen(config);
  if (!field) throw ConfigError("train_config.sparse_optimizer: no optimizer is set");
  return field->name();
}

double SparseBaseLearningRate(const SparseOptimizer& config) {
  const auto* field = Chosen(config);
  if (!field) throw ConfigError("train_config.sparse_optimizer: no optimizer is set");
  const auto& optimizer = config.GetReflection()->GetMessage(config, field);
  const auto* rate = optimizer.GetDescriptor()->FindFieldByName("lr");
  return config::ShortestDecimal(optimizer.GetReflection()->GetFloat(optimizer, rate));
}

}  // namespace anneal::embedding
