#define KERNELS Avx2MatrixKernels
#define NAME "avx2"
#define LANES 8
#define TILE_ROWS 6
#include "worker/nn/matrix_kernels.inc"
