#include "worker/nn/matrix_kernels.h"

#include "worker/config/instruction_set.h"

namespace anneal::nn {

const MatrixKernels& ChooseMatrixKernels() {
  static const MatrixKernels& chosen =
      config::Choose(ScalarMatrixKernels, Avx2MatrixKernels, Avx512MatrixKernels, AmxMatrixKernels);
  return chosen;
}

}  // namespace anneal::nn
