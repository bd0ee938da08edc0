#include "worker/embedding/lookup_pieces.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

namespace anneal::embedding {
namespace {

float LengthOf(const int64_t* offsets, int64_t bag) {
  return static_cast<float>(std::max<int64_t>(offsets[bag + 1] - offsets[bag], 1));
}

/// Lengths of the bags as a column, at least 1.
at::Tensor Lengths(const int64_t* offsets, int64_t rows, at::Device device) {
  at::Tensor lengths = at::empty({rows, 1}, at::kFloat);
  for (int64_t b = 0; b < rows; ++b) lengths.data_ptr<float>()[b] = LengthOf(offsets, b);
  return lengths.to(device);
}

/// A view of the piece's rows and columns in the ranks' blocks.
template <typename Piece>
at::Tensor ColumnsOf(const Piece& piece, const at::Tensor& blocks, int64_t rows) {
  return blocks.narrow(0, piece.block, rows * piece.width)
      .view({rows, piece.width})
      .narrow(1, piece.column, piece.columns);
}

}  // namespace

LookupPieces::LookupPieces(const models::EmbeddingPlan& plan, const std::vector<std::vector<ServedLookup>>& served,
                           int64_t width)
    : plan_(plan), served_(served), width_(width) {
  for (const auto& of_rank : served) {
    widths_.push_back(std::accumulate(of_rank.begin(), of_rank.end(), int64_t{0},
                                      [](int64_t sum, const auto& lookup) { return sum + lookup.shard.columns; }));
  }
}

int64_t LookupPieces::total(int64_t rows) const {
  return rows * std::accumulate(widths_.begin(), widths_.end(), int64_t{0});
}

// In the order of the exchanged blocks.
template <typename Action>
void LookupPieces::ForEach(const LookupInput& input, Action action) const {
  int64_t block = 0;
  for (size_t r = 0; r < served_.size(); ++r) {
    int64_t column = 0;
    for (const ServedLookup& served : served_[r]) {
      const auto& lookup = plan_.lookups[served.lookup];
      const bool mean = lookup.pooling == features::Pooling::kMean;
      action(Piece{block, column, widths_[r], lookup.column + served.shard.column_begin, served.shard.columns,
                   input.lookups[served.lookup].offsets, mean && served.split_rows});
      column += served.shard.columns;
    }
    block += input.rows * widths_[r];
  }
}

at::Tensor LookupPieces::Join(const at::Tensor& blocks, const LookupInput& input) const {
  const int64_t rows = input.rows;
  at::Tensor joined = at::zeros({rows, width_}, blocks.options());
  if (!blocks.is_cpu()) {
    ForEach(input, [&](const Piece& piece) {
      const at::Tensor source = ColumnsOf(piece, blocks, rows);
      joined.narrow(1, piece.target_column, piece.columns)
          .add_(piece.divide ? source / Lengths(piece.offsets, rows, blocks.device()) : source);
    });
    return joined;
  }
  const float* from = blocks.const_data_ptr<float>();
  float* to = joined.data_ptr<float>();
  ForEach(input, [&](const Piece& piece) {
    for (int64_t b = 0; b < rows; ++b) {
      const float* source = from + piece.block + b * piece.width + piece.column;
      float* target = to + b * width_ + piece.target_column;
      const float scale = piece.divide ? 1.0f / LengthOf(piece.offsets, b) : 1.0f;
      for (int64_t d = 0; d < piece.columns; ++d) target[d] += source[d] * scale;
    }
  });
  return joined;
}

at::Tensor LookupPieces::Split(const at::Tensor& gradient, const LookupInput& input, float scale, float bound) const {
  const int64_t rows = input.rows;
  at::Tensor blocks = at::empty({total(rows)}, gradient.options());
  // The clamp comes before the division, as a whole table does it.
  if (!blocks.is_cpu()) {
    at::Tensor scaled = gradient * scale;
    if (bound > 0) scaled.clamp_(-bound, bound);
    ForEach(input, [&](const Piece& piece) {
      const at::Tensor source = scaled.narrow(1, piece.target_column, piece.columns);
      ColumnsOf(piece, blocks, rows)
          .copy_(piece.divide ? source / Lengths(piece.offsets, rows, blocks.device()) : source);
    });
    return blocks;
  }
  const float* from = gradient.const_data_ptr<float>();
  float* to = blocks.data_ptr<float>();
  ForEach(input, [&](const Piece& piece) {
    for (int64_t b = 0; b < rows; ++b) {
      const float* source = from + b * width_ + piece.target_column;
      float* target = to + piece.block + b * piece.width + piece.column;
      const float divisor = piece.divide ? LengthOf(piece.offsets, b) : 1.0f;
      for (int64_t d = 0; d < piece.columns; ++d) {
        float g = source[d] * scale;
        if (bound > 0) g = std::clamp(g, -bound, bound);
        target[d] = g / divisor;
      }
    }
  });
  return blocks;
}

}  // namespace anneal::embedding
