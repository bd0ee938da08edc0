// The code for tiles, on any CPU: what the instructions do, written out.
#include <cstdlib>
#include <cstring>

#include "worker/nn/matrix_kernels.h"

namespace anneal::nn {
const MatrixKernels& WideMatrixKernels();
}

namespace {

struct Tile {
  unsigned char row[16][64];
};
thread_local Tile tiles[8];
thread_local bool begun = false;

void BeginTiles() {
  begun = true;
  std::memset(tiles, 0xFF, sizeof tiles);  // NaN: nobody counts on what is there
}
void EndTiles() { begun = false; }

template <int tile>
void ZeroTile() {
  std::memset(&tiles[tile], 0, sizeof(Tile));
}
template <int tile>
void LoadTile(const void* from, long row_bytes) {
  for (int r = 0; r < 16; ++r) std::memcpy(tiles[tile].row[r], static_cast<const char*>(from) + r * row_bytes, 64);
}
template <int tile>
void StoreTile(void* to, long row_bytes) {
  if (!begun) std::abort();
  for (int r = 0; r < 16; ++r) std::memcpy(static_cast<char*>(to) + r * row_bytes, tiles[tile].row[r], 64);
}

float Widen(const unsigned char* half) {
  unsigned char bytes[4] = {0, 0, half[0], half[1]};
  float value;
  std::memcpy(&value, bytes, 4);
  return value;
}

/// TDPBF16PS: the sums of the even and of the odd terms, each in float32, are added to what is there.
template <int sums, int a, int b>
void MultiplyTiles() {
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 16; ++n) {
      float even = 0, odd = 0, sum;
      for (int k = 0; k < 16; ++k) {
        even += Widen(tiles[a].row[m] + 4 * k) * Widen(tiles[b].row[k] + 4 * n);
        odd += Widen(tiles[a].row[m] + 4 * k + 2) * Widen(tiles[b].row[k] + 4 * n + 2);
      }
      std::memcpy(&sum, tiles[sums].row[m] + 4 * n, 4);
      sum += even + odd;
      std::memcpy(tiles[sums].row[m] + 4 * n, &sum, 4);
    }
  }
}

}  // namespace

#define KERNELS WideAmxMatrixKernels
#define NAME "wide_amx"
#define REST WideMatrixKernels
#include "worker/nn/matrix_kernels_amx.inc"
