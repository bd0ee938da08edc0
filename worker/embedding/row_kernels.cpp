#include "worker/embedding/row_kernels.h"

#include "worker/config/instruction_set.h"

namespace anneal::embedding {

const RowKernels& ChooseKernels() {
  switch (config::ChooseInstructionSet()) {
    case config::InstructionSet::kAvx512:
      return Avx512Kernels();
    case config::InstructionSet::kAvx2:
      return Avx2Kernels();
    case config::InstructionSet::kScalar:
      break;
  }
  return ScalarKernels();
}

}  // namespace anneal::embedding
