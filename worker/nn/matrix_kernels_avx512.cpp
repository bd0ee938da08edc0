#define KERNELS Avx512MatrixKernels
#define NAME "avx512"
#define LANES 16
#define TILE_ROWS 14
#include "worker/nn/matrix_kernels.inc"
