// The rotations of an intervention: as torch's files have them, and orthogonal whatever an optimizer did.
#include "worker/nn/intervention.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

namespace anneal::nn {
namespace {

double FromIdentity(const at::Tensor& r) {
  return (at::matmul(r.t(), r) - at::eye(r.size(1))).abs().max().item<double>();
}

TEST(Rotation, StateLiesRowByRow) {
  at::manual_seed(1);
  const Rotation rotation(12, 4);
  const auto buffers = rotation.NamedBuffers(), parameters = rotation.NamedParameters();
  ASSERT_EQ(buffers.size(), 1u);
  ASSERT_EQ(parameters.size(), 1u);
  EXPECT_TRUE(buffers[0].tensor.is_contiguous());
  EXPECT_TRUE(parameters[0].tensor.is_contiguous());
  // Of the first values R is the base's first columns.
  EXPECT_TRUE(at::allclose(rotation.Matrix(), buffers[0].tensor.narrow(1, 0, 4), 1e-5, 1e-6));
}

TEST(Rotation, StaysOrthogonalUnderDecay) {
  at::manual_seed(2);
  const Rotation rotation(12, 4);
  const at::Tensor original = rotation.NamedParameters()[0].tensor;
  for (int step = 0; step < 3; ++step) {
    const c10::AutoGradMode no_gradients(false);
    original.add_(at::randn_like(original), 0.1).mul_(0.99);  // the diagonal is no longer -1
    EXPECT_LT(FromIdentity(rotation.Matrix()), 1e-5) << step;
  }
}

}  // namespace
}  // namespace anneal::nn
