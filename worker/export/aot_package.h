// A package of AOTInductor (.pt2), loaded and run.
#pragma once

#include <ATen/core/Dict.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <memory>
#include <string>
#include <vector>

namespace torch::inductor {
class AOTIModelPackageLoader;
}

namespace anneal::exporting {

class AotPackage {
 public:
  /// `runners`: how many threads may run it at once. Throws ConfigError when it cannot be loaded.
  AotPackage(const std::string& path, int runners);
  ~AotPackage();

  /// Dictionary in, dictionary out, on the host. Other keys than the package asks for are ignored. Throws ConfigError
  /// naming a key that is missing.
  c10::Dict<std::string, at::Tensor> Run(const c10::Dict<std::string, at::Tensor>& data) const;

 private:
  at::Device device_ = at::kCPU;
  std::unique_ptr<torch::inductor::AOTIModelPackageLoader> loader_;
  std::vector<std::string> inputs_, outputs_;  ///< in the order of its call
};

}  // namespace anneal::exporting
