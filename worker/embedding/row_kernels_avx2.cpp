#define KERNELS Avx2Kernels
#define NAME "avx2"
#include "worker/embedding/row_kernels.inc"
