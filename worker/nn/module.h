// Base of every layer and model: a tree of named parameters and buffers, nothing else.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace anneal::nn {

/// A tensor under its dotted state name, e.g. "deep_mlp.mlp.0.perceptron.0.weight".
struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

/// Owns tensors by name and refers to child modules (which are members of the derived class). State names are the
/// dotted path of registration names, equal to TorchEasyRec's (parity/models.md), so that checkpoints agree.
/// Not copyable or movable: registered children are referred to by address.
class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// Trainable tensors in registration order, depth first; names get `prefix` + "." in front when it is not empty.
  std::vector<NamedTensor> NamedParameters(const std::string& prefix = "") const;
  /// Tensors that are saved but not trained (batch-norm statistics).
  std::vector<NamedTensor> NamedBuffers(const std::string& prefix = "") const;

  /// Moves every parameter and buffer of the tree to a device; whoever holds one of them sees it there.
  void To(at::Device device);

  /// Switches dropout and batch norm of the whole tree between training and inference.
  void Train(bool on = true);
  bool training() const { return training_; }

 protected:
  /// Takes the initial value, makes it a leaf that requires a gradient and returns the registered tensor.
  at::Tensor RegisterParameter(std::string name, at::Tensor value);
  at::Tensor RegisterBuffer(std::string name, at::Tensor value);
  void RegisterModule(std::string name, Module& child);

 private:
  std::vector<NamedTensor> parameters_, buffers_;
  std::vector<std::pair<std::string, Module*>> children_;
  bool training_ = true;
};

}  // namespace anneal::nn
