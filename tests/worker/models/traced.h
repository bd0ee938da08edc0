// A model's trace, as an export holds it.
#pragma once

#include <gtest/gtest.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <functional>
#include <string>

namespace anneal::models {

class Traced {
 public:
  using Forward = std::function<torch::jit::Stack(torch::jit::Stack)>;

  /// Of what `forward` does with `sample`.
  Traced(const Forward& forward, torch::jit::Stack sample)
      : graph_(torch::jit::tracer::trace(
                   std::move(sample), forward, [](const at::Tensor&) { return std::string(); }, /*strict=*/true,
                   /*force_outplace=*/false)
                   .first->graph) {}

  /// Its one result for another batch.
  at::Tensor operator()(torch::jit::Stack stack) const {
    torch::jit::GraphFunction function("forward", graph_->copy(), nullptr);
    function.run(stack);
    EXPECT_EQ(stack.size(), 1u);
    return stack.at(0).toTensor();
  }

 private:
  std::shared_ptr<torch::jit::Graph> graph_;
};

}  // namespace anneal::models
