#include "worker/nn/mask_net.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"
#include "worker/config/shortest_decimal.h"

namespace anneal::nn {
namespace {

int64_t AggregationWidth(int64_t in, const tzrec::protos::MaskBlock& config) {
  const double ratio = config::ShortestDecimal(config.reduction_ratio());
  const int64_t width = ratio == 0 ? config.aggregation_dim() : static_cast<int64_t>(static_cast<double>(in) * ratio);
  if (width < 1) {
    throw ConfigError(ratio == 0 ? "mask_block: reduction_ratio and aggregation_dim are both 0"
                                 : "mask_block.reduction_ratio: leaves nothing of " + std::to_string(in) + " columns");
  }
  return width;
}

}  // namespace

MaskBlock::MaskBlock(int64_t in, int64_t mask_in, const tzrec::protos::MaskBlock& config)
    : aggregation_(AggregationWidth(in, config)),
      generator_in_(mask_in, aggregation_),
      generator_out_(aggregation_, in),
      linear_(in, config.hidden_dim()),
      norm_(config.hidden_dim()) {
  RegisterModule("mask_generator.0", generator_in_);
  RegisterModule("mask_generator.2", generator_out_);
  RegisterModule("ffn.0", linear_);
  RegisterModule("ffn.1", norm_);
}

at::Tensor MaskBlock::Forward(const at::Tensor& x, const at::Tensor& embeddings) const {
  const at::Tensor mask = generator_out_.Forward(generator_in_.ForwardRelu(embeddings));
  return at::relu(norm_.Forward(linear_.Forward(x * mask)));
}

MaskNet::MaskNet(int64_t in, const tzrec::protos::MaskNetModule& config)
    : parallel_(config.use_parallel()), norm_(in), output_dim_(in) {
  if (config.n_mask_blocks() == 0) throw ConfigError("mask_net: n_mask_blocks is 0");
  RegisterModule("ln_emb", norm_);
  for (uint32_t i = 0; i < config.n_mask_blocks(); ++i) {
    blocks_.push_back(std::make_unique<MaskBlock>(parallel_ ? in : output_dim_, in, config.mask_block()));
    RegisterModule("mask_blocks." + std::to_string(i), *blocks_.back());
    output_dim_ = config.mask_block().hidden_dim();
  }
  if (parallel_) output_dim_ *= config.n_mask_blocks();
  if (config.has_top_mlp()) {
    top_ = std::make_unique<Mlp>(output_dim_, config.top_mlp());
    RegisterModule("top_mlp", *top_);
    output_dim_ = top_->output_dim();
  }
}

at::Tensor MaskNet::Forward(const at::Tensor& e) {
  at::Tensor h = norm_.Forward(e);
  if (parallel_) {
    std::vector<at::Tensor> outputs;
    for (auto& block : blocks_) outputs.push_back(block->Forward(h, e));
    h = at::cat(outputs, 1);
  } else {
    for (auto& block : blocks_) h = block->Forward(h, e);
  }
  return top_ ? top_->Forward(h) : h;
}

}  // namespace anneal::nn
