#include "worker/nn/repeated_linear.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "worker/nn/matrix_kernels.h"
#include "worker/nn/parallel.h"

namespace anneal::nn {
namespace {

using Part = RepeatedRows::Part;

/// Distinct rows of one part that are computed at a time: with a band's columns they stay in the first cache.
constexpr int64_t kChunk = 64;
/// Rows of the batch likewise.
constexpr int64_t kRows = 96;

int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

/// A run of columns of x, and where it is among the plain columns, those of no part.
struct Run {
  int64_t column, width, at;
};

std::vector<Run> PlainRuns(const RepeatedRows& repeated, int64_t in) {
  std::vector<Run> runs;
  int64_t column = 0, at = 0;
  auto add = [&](int64_t end) {
    if (end > column) runs.push_back({column, end - column, at});
    at += end - column;
  };
  for (const Part& part : repeated.parts) {
    add(part.column);
    column = part.column + part.width;
  }
  add(in);
  return runs;
}

int64_t Width(const std::vector<Run>& runs) { return runs.empty() ? 0 : runs.back().at + runs.back().width; }

/// The plain columns of a matrix.
at::Tensor Plain(const at::Tensor& matrix, const std::vector<Run>& runs) {
  at::Tensor plain = at::empty({matrix.size(0), Width(runs)}, matrix.options());
  for (const Run& run : runs) plain.narrow(1, run.at, run.width).copy_(matrix.narrow(1, run.column, run.width));
  return plain;
}

/// Distinct rows [begin, end) of a part.
struct Chunk {
  const Part* part;
  int64_t index, begin, end;
};

/// In the order of their numbers.
std::vector<Chunk> Chunks(const RepeatedRows& repeated) {
  std::vector<Chunk> chunks;
  for (const Part& part : repeated.parts) {
    const int64_t end = part.first + part.distinct;
    for (int64_t first = part.first; first < end; first += kChunk)
      chunks.push_back({&part, &part - repeated.parts.data(), first, std::min(end, first + kChunk)});
  }
  return chunks;
}

/// Where the threads' shares of the chunks end, each with as much to add up and to multiply as the others.
std::vector<size_t> ShareOut(const RepeatedRows& repeated, const std::vector<Chunk>& chunks) {
  constexpr int64_t kMultiply = 6;     // times what a holder costs
  const auto work = [&](size_t end) {  // of the chunks before
    const int64_t distinct = chunks[end - 1].end;
    return repeated.begin[distinct] + kMultiply * distinct;
  };
  const int64_t shares = std::min<int64_t>(at::get_num_threads(), static_cast<int64_t>(chunks.size()));
  std::vector<size_t> ends;
  for (size_t end = 1; end <= chunks.size(); ++end) {
    const auto next = static_cast<int64_t>(ends.size()) + 1;
    if (work(end) * shares >= next * work(chunks.size())) ends.push_back(end);
  }
  return ends;
}

/// The distinct rows' own numbers: each part's [distinct, width].
struct DistinctRows {
  std::vector<int64_t> offsets;  ///< per part, in `values`
  at::Tensor values;

  DistinctRows(const at::Tensor& x, const RepeatedRows& repeated, const std::vector<Chunk>& chunks) {
    int64_t size = 0;
    for (const Part& part : repeated.parts) {
      offsets.push_back(size - part.first * part.width);
      size += part.distinct * part.width;
    }
    values = at::empty({size}, x.options());
    const float* from = x.const_data_ptr<float>();
    at::parallel_for(0, chunks.size(), 8, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        const auto& [part, index, first, last] = chunks[c];
        for (int64_t d = first; d < last; ++d) {
          std::memcpy(values.data_ptr<float>() + offsets[index] + d * part->width,
                      from + repeated.holder[d] * x.stride(0) + part->column, sizeof(float) * part->width);
        }
      }
    });
  }
  const float* Row(const Chunk& chunk) const {
    return values.const_data_ptr<float>() + offsets[chunk.index] + chunk.begin * chunk.part->width;
  }
};

}  // namespace

at::Tensor RepeatedForward(const at::Tensor& any_x, const RepeatedRows& repeated, const at::Tensor& any_weight,
                           const std::optional<at::Tensor>& any_bias, bool relu) {
  const MatrixKernels& kernels = ChooseMatrixKernels();
  const at::Tensor x = WithContiguousRows(any_x), weight = any_weight.contiguous();
  const int64_t rows = x.size(0), in = x.size(1), out = weight.size(0), band = MatrixKernels::kBand;
  const std::vector<Run> runs = PlainRuns(repeated, in);
  const int64_t plain_width = Width(runs);
  const at::Tensor plain = Plain(x, runs), plain_weight = Plain(weight, runs);
  const at::Tensor bias = any_bias ? any_bias->contiguous() : at::zeros({out}, x.options());
  const float* const of_bias = bias.const_data_ptr<float>();
  const std::vector<Chunk> chunks = Chunks(repeated);
  const DistinctRows distinct(x, repeated, chunks);

  // Panels of the plain columns, then of each part.
  std::vector<int64_t> panels_at;
  int64_t size = kernels.panels_size(plain_width, out);
  for (const Part& part : repeated.parts) {
    panels_at.push_back(size);
    size += kernels.panels_size(part.width, out);
  }
  at::Tensor panels = at::empty({size}, x.options()), y = at::empty({rows, out}, x.options());
  if (plain_width > 0)
    kernels.pack(plain_weight.const_data_ptr<float>(), 1, plain_width, plain_width, out, panels.data_ptr<float>());
  for (size_t p = 0; p < repeated.parts.size(); ++p) {
    const Part& part = repeated.parts[p];
    kernels.pack(weight.const_data_ptr<float>() + part.column, 1, in, part.width, out,
                 panels.data_ptr<float>() + panels_at[p]);
  }
  // Columns of the last band behind the last output hold anything and go nowhere.
  at::Tensor products = at::empty({repeated.distinct(), band}, x.options());
  const auto parts = static_cast<int64_t>(repeated.parts.size());
  for (int64_t n = 0; n < out; n += band) {
    const int64_t columns = std::min(band, out - n);
    at::parallel_for(0, chunks.size(), 4, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        const Chunk& chunk = chunks[c];
        const int64_t width = chunk.part->width;
        kernels.multiply(distinct.Row(chunk), width, chunk.end - chunk.begin,
                         panels.const_data_ptr<float>() + panels_at[chunk.index] + kernels.panels_size(width, n), width,
                         columns, nullptr, false, products.data_ptr<float>() + chunk.begin * band, band);
      }
    });
    at::parallel_for(0, (rows + kRows - 1) / kRows, 4, [&](int64_t begin, int64_t end) {
      float edge[kRows * MatrixKernels::kBand];
      for (int64_t first = begin * kRows; first < std::min(rows, end * kRows); first += kRows) {
        const int64_t count = std::min(kRows, rows - first);
        float* const to = y.data_ptr<float>() + first * out + n;
        float* const sums = columns == band ? to : edge;
        const int64_t stride = columns == band ? out : band;
        if (plain_width > 0) {
          kernels.multiply(plain.const_data_ptr<float>() + first * plain_width, plain_width, count,
                           panels.const_data_ptr<float>() + kernels.panels_size(plain_width, n), plain_width, columns,
                           of_bias + n, false, sums, stride);
        } else {
          for (int64_t r = 0; r < count; ++r) std::memcpy(sums + r * stride, of_bias + n, sizeof(float) * columns);
        }
        kernels.add_rows(products.const_data_ptr<float>(), repeated.of_row.data() + first * parts, parts, count, relu,
                         sums, stride);
        if (sums == edge) {
          for (int64_t r = 0; r < count; ++r) std::memcpy(to + r * out, edge + r * band, sizeof(float) * columns);
        }
      }
    });
  }
  return y;
}

LinearGradients RepeatedBackward(at::Tensor g, const at::Tensor& relu_output, const at::Tensor& any_x,
                                 const RepeatedRows& repeated, const at::Tensor& any_weight, bool want_x,
                                 bool want_bias) {
  const MatrixKernels& kernels = ChooseMatrixKernels();
  const at::Tensor x = WithContiguousRows(any_x), weight = any_weight.contiguous();
  const int64_t rows = x.size(0), in = x.size(1), out = weight.size(0), band = MatrixKernels::kBand;
  const std::vector<Run> runs = PlainRuns(repeated, in);
  const auto options = x.options();
  g = relu_output.defined() ? OwnGradient(std::move(g)) : g.contiguous();
  // Masks g and adds up the bias's gradient, too.
  const LinearGradients plain = BlockedBackward(g, relu_output, Plain(x, runs), Plain(weight, runs), want_x, want_bias);
  const std::vector<Chunk> chunks = Chunks(repeated);
  const DistinctRows distinct(x, repeated, chunks);

  // Columns of W in each part, in rows of whole vectors: [out, padded].
  std::vector<int64_t> weight_at, gradient_at, sums_at;
  int64_t padded_size = 0, gradient_size = 0, sums_size = 0;
  for (const Part& part : repeated.parts) {
    const int64_t padded = RoundUp(part.width, kernels.lanes);
    weight_at.push_back(padded_size);
    padded_size += out * padded;
    gradient_at.push_back(gradient_size - part.first * padded);
    gradient_size += part.distinct * padded;
    sums_at.push_back(sums_size);
    sums_size += part.width * band;
  }
  at::Tensor padded_weight = at::zeros({want_x ? padded_size : 0}, options);
  at::Tensor row_gradients = at::zeros({want_x ? gradient_size : 0}, options);
  if (want_x) {
    for (size_t p = 0; p < repeated.parts.size(); ++p) {
      const int64_t width = repeated.parts[p].width, padded = RoundUp(width, kernels.lanes);
      float* to = padded_weight.data_ptr<float>() + weight_at[p];
      const float* from = weight.const_data_ptr<float>() + repeated.parts[p].column;
      for (int64_t n = 0; n < out; ++n) std::memcpy(to + n * padded, from + n * in, sizeof(float) * width);
    }
  }
  LinearGradients gradients;
  gradients.bias = plain.bias;
  gradients.weight = at::empty({out, in}, options);
  for (const Run& run : runs)
    gradients.weight.narrow(1, run.column, run.width).copy_(plain.weight.narrow(1, run.at, run.width));

  const std::vector<size_t> share_ends = ShareOut(repeated, chunks);
  const auto shares = static_cast<int64_t>(share_ends.size());
  // As in RepeatedForward, of the last band.
  at::Tensor g_band = at::empty({rows, band}, options);
  at::Tensor weight_sums = at::empty({shares, sums_size}, options);
  for (int64_t n = 0; n < out; n += band) {
    const int64_t columns = std::min(band, out - n);
    at::parallel_for(0, rows, 256, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        std::memcpy(g_band.data_ptr<float>() + r * band, g.const_data_ptr<float>() + r * out + n,
                    sizeof(float) * columns);
      }
    });
    weight_sums.zero_();
    at::parallel_for(0, shares, 1, [&](int64_t begin, int64_t end) {
      alignas(64) float sums[kChunk * MatrixKernels::kBand];
      for (int64_t share = begin; share < end; ++share) {
        float* share_sums = weight_sums.data_ptr<float>() + share * sums_size;
        for (size_t c = share == 0 ? 0 : share_ends[share - 1]; c < share_ends[share]; ++c) {
          const Chunk& chunk = chunks[c];
          const int64_t width = chunk.part->width, padded = RoundUp(width, kernels.lanes);
          kernels.sum_rows(g_band.const_data_ptr<float>(), repeated.holders.data(), repeated.begin.data() + chunk.begin,
                           chunk.end - chunk.begin, sums);
          kernels.add_product(distinct.Row(chunk), 1, width, width, sums, band, chunk.end - chunk.begin, band,
                              share_sums + sums_at[chunk.index], band);
          if (want_x) {
            kernels.add_product(
                sums, band, 1, chunk.end - chunk.begin,
                padded_weight.const_data_ptr<float>() + weight_at[chunk.index] + n * padded, padded, columns, padded,
                row_gradients.data_ptr<float>() + gradient_at[chunk.index] + chunk.begin * padded, padded);
          }
        }
      }
    });
    for (int64_t share = 1; share < shares; ++share) weight_sums[0].add_(weight_sums[share]);
    for (size_t p = 0; p < repeated.parts.size(); ++p) {
      const Part& part = repeated.parts[p];
      const float* from = weight_sums.const_data_ptr<float>() + sums_at[p];
      float* to = gradients.weight.data_ptr<float>() + n * in + part.column;
      for (int64_t i = 0; i < columns; ++i) {
        for (int64_t k = 0; k < part.width; ++k) to[i * in + k] = from[k * band + i];
      }
    }
  }
  if (!want_x) return gradients;
  gradients.x = at::zeros({rows, in}, options);
  for (const Run& run : runs) gradients.x.narrow(1, run.column, run.width).copy_(plain.x.narrow(1, run.at, run.width));
  at::parallel_for(0, chunks.size(), 8, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      const auto& [part, index, first, last] = chunks[c];
      const int64_t padded = RoundUp(part->width, kernels.lanes);
      for (int64_t d = first; d < last; ++d) {
        std::memcpy(gradients.x.data_ptr<float>() + repeated.holder[d] * in + part->column,
                    row_gradients.const_data_ptr<float>() + gradient_at[index] + d * padded,
                    sizeof(float) * part->width);
      }
    }
  });
  return gradients;
}

}  // namespace anneal::nn
