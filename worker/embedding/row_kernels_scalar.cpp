#define KERNELS ScalarKernels
#define NAME "scalar"
#include "worker/embedding/row_kernels.inc"
