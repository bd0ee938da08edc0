// The inner loops of the CPU backend, compiled once per instruction set (row_kernels_{scalar,avx2,avx512}).
#pragma once

#include <cstdint>

#include "worker/embedding/table_batch.h"

namespace anneal::embedding {

constexpr int64_t kPrefetch = 8;  ///< rows ahead

/// The row that an id stands for: one outside the table is row 0. Not inline: each file keeps its own code, compiled
/// for its instruction set.
[[maybe_unused]] static int64_t RowOf(int64_t id, int64_t table_rows) {
  return static_cast<uint64_t>(id) < static_cast<uint64_t>(table_rows) ? id : 0;
}

/// Numbers of one optimizer step, the same for every row.
struct StepConstants {
  OptimizerSpec spec;
  float learning_rate = 0.f;
  float correction1 = 1.f;  ///< 1 / (1 - beta1^t)
  float correction2 = 1.f;  ///< 1 / (1 - beta2^t)
};

/// A bag's gradient on its way to a row: both by where they begin, in floats.
struct GradientPart {
  int64_t to, from;
  float weight;
};

/// The rows of a table that a step changes. A state's width is 0, 1 or `dim`, as the optimizer has it.
struct TouchedRows {
  const int64_t* rows;
  int64_t count, dim;
  float *weights, *state1, *state2;  ///< the table's
  int64_t width1, width2;
  float* gradients;  ///< [count, dim], clobbered
};

/// Function table of one instruction set. `dim` is any positive number; pointers need no alignment.
struct RowKernels {
  const char* name;
  /// Bags of at most one id: bag b is row ids[offsets[b]] of the table, 0 where it is empty. An id outside the table
  /// counts as 0; returns how many did. out [bags, dim], rows out_stride apart.
  int64_t (*gather)(const float* table, int64_t table_rows, const int64_t* ids, const int64_t* offsets, int64_t bags,
                    float* out, int64_t out_stride, int64_t dim);
  /// out += weight * row
  void (*accumulate)(float* out, const float* row, float weight, int64_t dim);
  /// out *= factor
  void (*scale)(float* out, float factor, int64_t dim);
  /// out[to] += clamp(gradient[from] * grad_scale, +-bound) * weight for each part in order; bound <= 0: no clamp
  void (*add_gradients)(const GradientPart* parts, int64_t count, const float* gradient, float grad_scale, float bound,
                        float* out, int64_t dim);
  /// One optimizer step on each row from its summed gradient.
  void (*update)(const StepConstants& step, const TouchedRows& touched);
  /// The same for a row that is cut into columns, from its summed gradient g (clobbered); state1 and state2 are the
  /// row's. Stage by stage (RowSumStages): `sums` are the whole row's of the stage before, then this shard's of this
  /// one ...
  void (*sum_row)(const StepConstants& step, int stage, const float* row, float* state1, float* state2, float* g,
                  int64_t dim, int64_t whole_dim, float* sums);
  /// ... and last the step itself from the whole row's.
  void (*finish_row)(const StepConstants& step, float* row, float* state1, float* state2, float* g, int64_t dim,
                     int64_t whole_dim, const float* sums);
};

const RowKernels& ScalarKernels();
const RowKernels& Avx2Kernels();
const RowKernels& Avx512Kernels();

/// Those of config::ChooseInstructionSet(); throws what that throws.
const RowKernels& ChooseKernels();

}  // namespace anneal::embedding
