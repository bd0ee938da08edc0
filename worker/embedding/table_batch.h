// Table-batched embedding lookup with fused backward and optimizer step: all tables of one optimizer in one pass.
//
// A TableBatch owns the rows of its tables (whole tables or row-wise shards) and their optimizer state. Forward pools
// the rows of a batch; BackwardUpdate takes d loss / d pooled output, sums it per touched row (duplicates first, then
// ONE optimizer step per touched row) and updates weights and state in place. Untouched rows never change.
// Formulas: parity/train.md 12 and shared/golden/optimizers/README.md. No LibTorch in this interface: pointers are
// host memory for the CPU backend and device memory for a CUDA backend.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace anneal::embedding {

enum class Pooling { kSum, kMean };

enum class OptimizerType {
  kSgd,
  kAdagrad,
  kRowwiseAdagrad,
  kAdam,
  kPartialRowwiseAdam,
  kLamb,
  kPartialRowwiseLamb,
  kLarsSgd,
  kAdadelta,  ///< beta1 is rho
  kRmsprop    ///< beta1 is alpha
};

enum class WeightDecayMode { kNone, kL2, kDecouple };

struct OptimizerSpec {
  OptimizerType type = OptimizerType::kSgd;
  float eps = 1e-8f;
  float beta1 = 0.9f, beta2 = 0.999f;
  float weight_decay = 0.f;
  WeightDecayMode weight_decay_mode = WeightDecayMode::kNone;  ///< row-wise Adagrad only
  float eta = 0.001f, momentum = 0.9f;                         ///< LARS-SGD only
  float initial_accumulator = 0.f;                             ///< start value of the first state
  float max_gradient = 0.f;  ///< > 0: clamp the incoming per-bag gradient element-wise before pooling
};

struct TableSpec {
  std::string name;
  int64_t rows = 0;       ///< rows held here (a shard's rows when row-wise)
  int64_t dim = 0;        ///< columns held here
  bool trainable = true;  ///< false: BackwardUpdate leaves weights and state alone
  int64_t whole_dim = 0;  ///< > dim: a shard of a table that is so wide
};

/// Numbers of the touched rows of a column shard, two per row, that an optimizer needs of the whole row.
struct ShardRowSums {
  int table = 0;
  std::span<float> sums;
};
/// Adds up the numbers over the column shards of each table, in place.
using AddOverColumnShards = std::function<void(std::span<const ShardRowSums>)>;
/// How many times a step an optimizer asks for such sums: 0 for those that treat every element by itself.
constexpr int RowSumStages(OptimizerType type) {
  switch (type) {
    case OptimizerType::kRowwiseAdagrad:
    case OptimizerType::kPartialRowwiseAdam:
    case OptimizerType::kLamb:
    case OptimizerType::kLarsSgd:
      return 1;
    case OptimizerType::kPartialRowwiseLamb:
      return 2;
    default:
      return 0;
  }
}

/// One feature that looks up a table: feature f of the lookup writes columns [out_column, out_column + dim).
struct FeatureSpec {
  int table = 0;
  Pooling pooling = Pooling::kSum;
  int64_t out_column = 0;
};

/// Ids of one feature for `rows` bags. Bag b = values[offsets[b] .. offsets[b+1]). An id outside [0, table rows) is
/// clamped to row 0 and counted (out_of_range()). weights may be null (all 1).
/// kMean: sum(w*e) / number of ids of the bag; an empty bag gives zeros.
struct Jagged {
  const int64_t* values = nullptr;
  const int64_t* offsets = nullptr;  ///< [rows + 1], absolute into values and weights
  const float* weights = nullptr;
};

/// A named piece of optimizer state: "momentum1" [rows, dim] or [rows], "exp_avg_sq"/"momentum2" the same.
struct StateView {
  std::string name;
  float* data = nullptr;
  int64_t rows = 0;
  int64_t dim = 0;  ///< 0 when one value per row
};

/// The rows and their state as they were when it was made, for a checkpoint that is written while training goes on.
/// Made and destroyed by the thread that trains; Read from any.
class TableSnapshot {
 public:
  virtual ~TableSnapshot() = default;
  /// Values [first, first + count) of a table's part. Part 0: weights(table); part 1 + i: state(table)[i].
  virtual void Read(int table, int part, int64_t first, int64_t count, float* out) const = 0;
};

class TableBatch {
 public:
  virtual ~TableBatch() = default;

  virtual std::span<const TableSpec> tables() const = 0;
  virtual std::span<const FeatureSpec> features() const = 0;

  /// The learning rate of the step whose Forward comes next, which its BackwardUpdate gets, too. Some backends bind it
  /// with the lookup.
  virtual void set_learning_rate(float) {}

  /// out[b, out_column..] = pooled rows, for all features. `out` is [rows, out_stride] row-major; every column of
  /// every feature is written, others are left alone. jagged.size() == features().size().
  virtual void Forward(std::span<const Jagged> jagged, int64_t rows, float* out, int64_t out_stride) = 0;

  /// One optimizer step from grad [rows, grad_stride] laid out as Forward's `out`, multiplied by grad_scale before
  /// clamping. lr is this step's learning rate. Advances iteration(). `add`, when given, is called RowSumStages()
  /// times, with what this batch's column shards have; without it a column shard is trained as if it were the whole
  /// table.
  virtual void BackwardUpdate(std::span<const Jagged> jagged, int64_t rows, const float* grad, int64_t grad_stride,
                              float grad_scale, float lr, const AddOverColumnShards& add = nullptr) = 0;

  /// d loss / d weights of table t, added to out[t] ([rows, dim] row-major; null: not wanted). No clamp, no optimizer:
  /// for tables that the dense optimizer trains. The gradients of a row are summed in batch order.
  virtual void AccumulateGradients(std::span<const Jagged> jagged, int64_t rows, const float* grad, int64_t grad_stride,
                                   std::span<float* const> out) = 0;

  virtual float* weights(int table) = 0;                ///< [rows, dim] row-major
  virtual std::vector<StateView> state(int table) = 0;  ///< empty for SGD
  /// One at a time. Null from a backend that has none: there the caller copies.
  virtual std::unique_ptr<TableSnapshot> Snapshot() { return nullptr; }
  virtual int64_t iteration() const = 0;  ///< optimizer steps made; bias correction uses it
  virtual void set_iteration(int64_t iteration) = 0;
  virtual int64_t out_of_range() const = 0;  ///< ids clamped so far
};

/// The CPU backend: kernels chosen at run time (scalar, AVX2, AVX-512; ANNEAL_CPU_KERNELS=scalar|avx2|avx512 forces
/// one), `threads` workers. Weights start at zero; the caller initialises them.
std::unique_ptr<TableBatch> MakeCpuTableBatch(std::vector<TableSpec> tables, std::vector<FeatureSpec> features,
                                              const OptimizerSpec& optimizer, int threads);

}  // namespace anneal::embedding
