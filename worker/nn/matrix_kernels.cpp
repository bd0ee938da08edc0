#include "worker/nn/matrix_kernels.h"

#include "worker/config/instruction_set.h"

namespace anneal::nn {

const MatrixKernels& ChooseMatrixKernels() {
  return config::Choose(ScalarMatrixKernels, Avx2MatrixKernels, Avx512MatrixKernels);
}

}  // namespace anneal::nn
