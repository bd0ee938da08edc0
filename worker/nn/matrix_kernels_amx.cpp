#include <immintrin.h>

namespace {

/// Eight tiles of 16 rows of 64 bytes (palette 1).
struct alignas(64) TileShapes {
  unsigned char palette = 1, start_row = 0, reserved[14] = {};
  unsigned short row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

inline void BeginTiles() {
  static constexpr TileShapes shapes;
  _tile_loadconfig(&shapes);
}
// A thread with tiles has 8 KiB more to save when it is switched.
inline void EndTiles() { _tile_release(); }

// The intrinsics are macros that take literals.
template <int tile>
inline void ZeroTile();
template <int tile>
inline void LoadTile(const void* from, long row_bytes);
template <int tile>
inline void StoreTile(void* to, long row_bytes);
template <int sums, int a, int b>
inline void MultiplyTiles();

#define TILE(t)                                               \
  template <>                                                 \
  inline void ZeroTile<t>() {                                 \
    _tile_zero(t);                                            \
  }                                                           \
  template <>                                                 \
  inline void LoadTile<t>(const void* from, long row_bytes) { \
    _tile_loadd(t, from, row_bytes);                          \
  }                                                           \
  template <>                                                 \
  inline void StoreTile<t>(void* to, long row_bytes) {        \
    _tile_stored(t, to, row_bytes);                           \
  }
TILE(0)
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
TILE(7)

#define PRODUCT(sums, a, b)                 \
  template <>                               \
  inline void MultiplyTiles<sums, a, b>() { \
    _tile_dpbf16ps(sums, a, b);             \
  }
PRODUCT(0, 4, 6)
PRODUCT(1, 5, 6)
PRODUCT(2, 4, 7)
PRODUCT(3, 5, 7)

}  // namespace

#define KERNELS AmxMatrixKernels
#define NAME "amx"
#define REST Avx512MatrixKernels
#include "worker/nn/matrix_kernels_amx.inc"
