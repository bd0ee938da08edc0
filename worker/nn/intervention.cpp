#include "worker/nn/intervention.h"

#include <ATen/ATen.h>
#include <ATen/TracerMode.h>

namespace anneal::nn {
namespace {

at::Tensor RandomRotation(int64_t size) { return std::get<0>(at::linalg_qr(at::randn({size, size}))); }

/// Whose reflections are none: R is the first columns of B.
at::Tensor NoReflection(int64_t in, int64_t rank) { return -at::eye(in, rank); }

}  // namespace

Rotation::Rotation(int64_t in, int64_t rank)
    : base_(RegisterBuffer("parametrizations.weight.0.base", RandomRotation(in))),
      original_(RegisterParameter("parametrizations.weight.original", NoReflection(in, rank))) {}

// ONNX knows no product of reflections: an export has the matrix as it is.
at::Tensor Rotation::Matrix() const {
  const at::tracer::impl::NoTracerDispatchMode not_traced;
  const at::Tensor below = original_.tril(-1), signs = original_.detach().diagonal().sign();
  const at::Tensor columns = at::linalg_householder_product(below, 2.0 / (1.0 + below.square().sum(0)));
  return at::matmul(base_, columns * signs);
}

Intervention::Intervention(int64_t in, int64_t source_in, int64_t rank, double dropout)
    : base_(in, rank), source_(source_in, rank), dropout_(dropout) {
  RegisterModule("base_rotate_layer", base_);
  RegisterModule("source_rotate_layer", source_);
}

at::Tensor Intervention::Forward(const at::Tensor& base, const at::Tensor& source) const {
  const at::Tensor rotation = base_.Matrix();
  const at::Tensor apart = at::matmul(base, rotation) - at::matmul(source.detach(), source_.Matrix());
  const at::Tensor moved = at::matmul(apart, rotation.t()) + base;
  return dropout_ > 0 && training() ? at::dropout(moved, dropout_, true) : moved;
}

}  // namespace anneal::nn
