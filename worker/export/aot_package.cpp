#include "worker/export/aot_package.h"

#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/dist/device.h"

namespace anneal::exporting {
namespace {

using nlohmann::json;

/// Keys of the dictionary in a call's tree of containers.
std::vector<std::string> Keys(const json& tree) {
  if (tree.is_object() && tree.value("type", "") == "builtins.dict") {
    const json keys = json::parse(tree.value("context", "[]"), nullptr, false);
    if (keys.is_array() && !keys.empty()) return keys;
  }
  if (tree.is_structured()) {
    for (const auto& part : tree) {
      if (auto keys = Keys(part); !keys.empty()) return keys;
    }
  }
  return {};
}

/// Where a package computes. One for CUDA is loaded by LibTorch's CUDA half, which has to be here before.
at::Device DeviceOf(const std::string& path) {
  const auto metadata = torch::inductor::AOTIModelPackageLoader::load_metadata_from_package(path, "model");
  const auto device = metadata.find("AOTI_DEVICE_KEY");
  if (device == metadata.end() || device->second != "cuda") return at::kCPU;
  const at::Device mine = dist::ChooseDevice(dist::Topology::FromEnvironment());
  if (mine.is_cpu()) {
    std::string why;
    if (dist::FindAccelerator(&why)) why = "ANNEAL_DEVICE=cpu";
    throw ConfigError("it is compiled for CUDA, and this process computes on the CPU: " + why);
  }
  return mine;
}

}  // namespace

AotPackage::AotPackage(const std::string& path, int runners) {
  if (!std::filesystem::exists(path)) throw ConfigError("there is no compiled model at " + path);
  // A package asks for libtorch.so by name. The whole one would pull every CUDA library: an empty one on this program's
  // run path comes first.
  ::dlopen("libtorch.so", RTLD_NOW | RTLD_GLOBAL);
  try {
    device_ = DeviceOf(path);
    loader_ = std::make_unique<torch::inductor::AOTIModelPackageLoader>(path, "model", false, runners, device_.index());
    const auto call = loader_->get_call_spec();
    inputs_ = Keys(json::parse(call.at(0)));
    outputs_ = Keys(json::parse(call.at(1)));
  } catch (const std::exception& error) {
    throw ConfigError(path + " cannot be loaded: " + std::string(error.what()).substr(0, 300));
  }
}

AotPackage::~AotPackage() = default;

c10::Dict<std::string, at::Tensor> AotPackage::Run(const c10::Dict<std::string, at::Tensor>& data) const {
  std::vector<at::Tensor> arguments;
  arguments.reserve(inputs_.size());
  for (const std::string& name : inputs_) {
    const auto found = data.find(name);
    if (found == data.end()) throw ConfigError("the compiled model needs the input '" + name + "'");
    arguments.push_back(found->value().to(device_));
  }
  const auto results = loader_->boxed_run(std::move(arguments));
  c10::Dict<std::string, at::Tensor> outputs;
  for (size_t i = 0; i < results.size(); ++i) outputs.insert(outputs_.at(i), results[i].to(at::kCPU));
  return outputs;
}

}  // namespace anneal::exporting
