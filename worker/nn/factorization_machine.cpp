#include "worker/nn/factorization_machine.h"

#include <ATen/ATen.h>

namespace anneal::nn {

at::Tensor FactorizationMachine(const at::Tensor& x, int64_t fields, int64_t dim) {
  const at::Tensor v = x.reshape({-1, fields, dim});
  return (v.sum(1).square() - v.square().sum(1)) * 0.5;
}

}  // namespace anneal::nn
