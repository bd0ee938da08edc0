// The inner loops of the CPU backend on one row, compiled once per instruction set (row_kernels_{scalar,avx2,avx512}).
#pragma once

#include <cstdint>

#include "worker/embedding/table_batch.h"

namespace anneal::embedding {

/// Numbers of one optimizer step, the same for every row.
struct StepConstants {
  OptimizerSpec spec;
  float learning_rate = 0.f;
  float correction1 = 1.f;  ///< 1 / (1 - beta1^t)
  float correction2 = 1.f;  ///< 1 / (1 - beta2^t)
};

/// Function table of one instruction set. `dim` is any positive number; pointers need no alignment.
struct RowKernels {
  const char* name;
  /// out += weight * row
  void (*accumulate)(float* out, const float* row, float weight, int64_t dim);
  /// out *= factor
  void (*scale)(float* out, float factor, int64_t dim);
  /// out += clamp(gradient * grad_scale, +-bound) * weight; bound <= 0: no clamp
  void (*accumulate_gradient)(float* out, const float* gradient, float grad_scale, float bound, float weight,
                              int64_t dim);
  /// One optimizer step on a row from its summed gradient g (clobbered). state1 and state2 point at the row's state:
  /// `dim` values or one, as the optimizer has it.
  void (*update)(const StepConstants& step, float* row, float* state1, float* state2, float* g, int64_t dim);
  /// The same for a row that is cut into columns. Stage by stage (RowSumStages): `sums` are the whole row's of the
  /// stage before, then this shard's of this one ...
  void (*sum_row)(const StepConstants& step, int stage, const float* row, float* state1, float* state2, float* g,
                  int64_t dim, int64_t whole_dim, float* sums);
  /// ... and last the step itself from the whole row's.
  void (*finish_row)(const StepConstants& step, float* row, float* state1, float* state2, float* g, int64_t dim,
                     int64_t whole_dim, const float* sums);
};

const RowKernels& ScalarKernels();
const RowKernels& Avx2Kernels();
const RowKernels& Avx512Kernels();

/// The best the CPU has, or what ANNEAL_CPU_KERNELS (scalar, avx2, avx512) asks for; throws ConfigError when that is
/// unknown or the CPU lacks it.
const RowKernels& ChooseKernels();

}  // namespace anneal::embedding
