#define KERNELS ScalarMatrixKernels
#define NAME "scalar"
#define LANES 4
#define TILE_ROWS 6
#include "worker/nn/matrix_kernels.inc"
