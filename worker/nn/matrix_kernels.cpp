#include "worker/nn/matrix_kernels.h"

#include "worker/config/instruction_set.h"

namespace anneal::nn {

const MatrixKernels& ChooseMatrixKernels() {
  switch (config::ChooseInstructionSet()) {
    case config::InstructionSet::kAvx512:
      return Avx512MatrixKernels();
    case config::InstructionSet::kAvx2:
      return Avx2MatrixKernels();
    case config::InstructionSet::kScalar:
      break;
  }
  return ScalarMatrixKernels();
}

}  // namespace anneal::nn
