// AVX-512's tile and panel, on any CPU: the compiler takes its vectors apart.
#define KERNELS WideMatrixKernels
#define NAME "wide"
#define LANES 16
#define TILE_ROWS 14
#include "worker/nn/matrix_kernels.inc"
