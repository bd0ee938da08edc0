// The matrix products of a linear layer y = x W' + b on float32, x [B, in], W [out, in], written for one instruction
// set each. The way of Goto and van de Geijn (Anatomy of High-Performance Matrix Multiplication, 2008): one operand in
// panels that stay in the first cache, the other read as it lies, a tile of the result in registers.
//
// What a library's product does not have: x and g need no copy, bias and ReLU are added to a tile before it is stored,
// and the backward pass reads each block of rows of g once for its mask, the bias's gradient and both products.
#pragma once

#include <cstdint>

namespace anneal::nn {

struct MatrixKernels {
  const char* name;
  int64_t block;  ///< rows that add_outer takes at most
  int64_t lanes;  ///< what widths of add_product are multiples of

  static constexpr int64_t kBand = 64;  ///< columns of add_rows and sum_rows, a multiple of a panel's

  /// Floats of a matrix's panels. Those of a multiple of kBand of its columns are as many floats of their beginning.
  int64_t (*panels_size)(int64_t depth, int64_t columns);
  /// b(k, n) = b[k * k_stride + n * n_stride], k < depth, n < columns, as panels of some columns each; what columns
  /// lack of the last panel is 0.
  void (*pack)(const float* b, int64_t k_stride, int64_t n_stride, int64_t depth, int64_t columns, float* panels);

  /// y[rows, columns] = a[rows, depth] b, depth > 0 (+ bias, no less than 0 with `relu`); rows are a_stride and
  /// y_stride apart, bias may be null. A result does not depend on the rows beside it.
  void (*multiply)(const float* a, int64_t a_stride, int64_t rows, const float* panels, int64_t depth, int64_t columns,
                   const float* bias, bool relu, float* y, int64_t y_stride);

  /// Numbers of the sums that add_outer adds to, which begin as 0, and of the memory that it needs meanwhile.
  int64_t (*outer_size)(int64_t m, int64_t n);
  int64_t (*outer_scratch)(int64_t m, int64_t n);
  /// sums += g' x over `rows` <= block rows: g [rows, m], x [rows, n], contiguous rows. The sums have an order of their
  /// own.
  void (*add_outer)(const float* g, int64_t g_stride, int64_t m, const float* x, int64_t x_stride, int64_t n,
                    int64_t rows, float* scratch, float* sums);
  /// out[m, n] = sums.
  void (*take_outer)(const float* sums, int64_t m, int64_t n, float* out);

  /// g = 0 where y <= 0, unless y is null, and sums[n] += the columns of g, unless sums is null. g, y [rows, n].
  void (*mask)(float* g, const float* y, int64_t rows, int64_t n, float* sums);

  /// c[rows, columns] += a b: a(r, k) = a[r * row_stride + k * k_stride], k < depth, b [depth, columns] with rows that
  /// are b_stride apart, columns a multiple of `lanes`, rows > 0.
  void (*add_product)(const float* a, int64_t row_stride, int64_t k_stride, int64_t rows, const float* b,
                      int64_t b_stride, int64_t depth, int64_t columns, float* c, int64_t c_stride);

  /// y[r, kBand] += the sum of table[index[r, i], kBand] over i < count, no less than 0 with `relu`.
  void (*add_rows)(const float* table, const int32_t* index, int64_t count, int64_t rows, bool relu, float* y,
                   int64_t y_stride);
  /// sums[l, kBand] = the sum of table[index[i], kBand] over begin[l] <= i < begin[l + 1], for l < lists.
  void (*sum_rows)(const float* table, const int32_t* index, const int32_t* begin, int64_t lists, float* sums);
};

/// Of the widest instruction set that this CPU has (config/instruction_set.h); with `amx`, products on tiles, the rest
/// AVX-512's.
const MatrixKernels& ChooseMatrixKernels();

const MatrixKernels& ScalarMatrixKernels();
const MatrixKernels& Avx2MatrixKernels();
const MatrixKernels& Avx512MatrixKernels();
const MatrixKernels& AmxMatrixKernels();

}  // namespace anneal::nn
