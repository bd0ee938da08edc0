#include "worker/nn/module.h"

namespace anneal::nn {
namespace {

std::string Join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

}  // namespace

std::vector<NamedTensor> Module::NamedParameters(const std::string& prefix) const {
  std::vector<NamedTensor> all;
  for (const auto& [name, tensor] : parameters_) all.push_back({Join(prefix, name), tensor});
  for (const auto& [name, child] : children_) {
    for (auto& entry : child->NamedParameters(Join(prefix, name))) all.push_back(std::move(entry));
  }
  return all;
}

std::vector<NamedTensor> Module::NamedBuffers(const std::string& prefix) const {
  std::vector<NamedTensor> all;
  for (const auto& [name, tensor] : buffers_) all.push_back({Join(prefix, name), tensor});
  for (const auto& [name, child] : children_) {
    for (auto& entry : child->NamedBuffers(Join(prefix, name))) all.push_back(std::move(entry));
  }
  return all;
}

void Module::To(at::Device device) {
  for (auto* own : {&parameters_, &buffers_}) {
    for (auto& [name, tensor] : *own) {
      if (tensor.device() != device) tensor.set_data(tensor.detach().to(device));
    }
  }
  for (auto& [name, child] : children_) child->To(device);
}

void Module::Train(bool on) {
  training_ = on;
  for (auto& [name, child] : children_) child->Train(on);
}

at::Tensor Module::RegisterParameter(std::string name, at::Tensor value) {
  value = value.detach().contiguous();  // its rows are written as they lie
  value.set_requires_grad(true);
  parameters_.push_back({std::move(name), value});
  return value;
}

at::Tensor Module::RegisterBuffer(std::string name, at::Tensor value) {
  value = value.detach().contiguous();
  buffers_.push_back({std::move(name), value});
  return value;
}

void Module::RegisterModule(std::string name, Module& child) { children_.emplace_back(std::move(name), &child); }

}  // namespace anneal::nn
