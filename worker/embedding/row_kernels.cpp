#include "worker/embedding/row_kernels.h"

#include "worker/config/instruction_set.h"

namespace anneal::embedding {

const RowKernels& ChooseKernels() { return config::Choose(ScalarKernels, Avx2Kernels, Avx512Kernels); }

}  // namespace anneal::embedding
