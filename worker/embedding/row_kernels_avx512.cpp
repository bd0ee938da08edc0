#define KERNELS Avx512Kernels
#define NAME "avx512"
#include "worker/embedding/row_kernels.inc"
