// The CPU backend of TableBatch.
//
// Forward: threads take runs of rows; each bag's table rows are summed with the next ids prefetched.
// Backward: a table belongs to one thread per step (or, with fewer tables than threads, a slice of its rows does), so
// no two threads touch one row and the gradients of a row are always summed in batch order: results do not depend on
// the number of threads. The first touch of a row in a step gives it a slot in a dense buffer, later ones add to it;
// then every slot gets one optimizer step.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>

#include "worker/embedding/row_keeper.h"
#include "worker/embedding/row_kernels.h"
#include "worker/embedding/slot_map.h"
#include "worker/embedding/worker_pool.h"
#include "worker/embedding/zero_pages.h"

namespace anneal::embedding {
namespace {

/// Rows of float32 filled with `value`.
class Rows {
 public:
  Rows(int64_t count, float value) : values_(count, ZeroPages<float>::Pages::kHuge) {
    if (value != 0) std::fill_n(values_.data(), count, value);
  }
  float* data() { return values_.data(); }

 private:
  ZeroPages<float> values_;
};

/// Which states an optimizer keeps per row: 0 none, 1 one value, kElement one per column.
enum class StateShape { kNone, kRow, kElement };

std::pair<StateShape, StateShape> StateShapes(OptimizerType type) {
  switch (type) {
    case OptimizerType::kSgd:
      return {StateShape::kNone, StateShape::kNone};
    case OptimizerType::kRowwiseAdagrad:
      return {StateShape::kRow, StateShape::kNone};
    case OptimizerType::kAdagrad:
    case OptimizerType::kLarsSgd:
    case OptimizerType::kRmsprop:
      return {StateShape::kElement, StateShape::kNone};
    case OptimizerType::kAdam:
    case OptimizerType::kLamb:
    case OptimizerType::kAdadelta:
      return {StateShape::kElement, StateShape::kElement};
    case OptimizerType::kPartialRowwiseAdam:
    case OptimizerType::kPartialRowwiseLamb:
      return {StateShape::kElement, StateShape::kRow};
  }
  return {StateShape::kNone, StateShape::kNone};
}

/// Whether rows are trained in stages with sums over column shards between them.
bool Staged(const TableSpec& spec, const OptimizerSpec& optimizer, const AddOverColumnShards& add) {
  return add && spec.whole_dim > spec.dim && RowSumStages(optimizer.type) > 0;
}

int64_t StateWidth(StateShape shape, int64_t dim) {
  return shape == StateShape::kNone ? 0 : shape == StateShape::kRow ? 1 : dim;
}

struct Table {
  Table(const TableSpec& spec, const OptimizerSpec& optimizer)
      : spec(spec),
        shapes(StateShapes(optimizer.type)),
        weights(spec.rows * spec.dim, 0.f),
        state1(spec.rows * StateWidth(shapes.first, spec.dim), optimizer.initial_accumulator),
        state2(spec.rows * StateWidth(shapes.second, spec.dim), 0.f) {}

  TableSpec spec;
  std::pair<StateShape, StateShape> shapes;
  Rows weights, state1, state2;
  std::vector<int> features;
  std::unique_ptr<RowKeeper> keeper;  ///< while there is a snapshot
};

/// A thread's buffers; they grow to what a step needs and stay.
struct Scratch {
  std::vector<float> gradients;  ///< [slots, dim]
  std::vector<int64_t> rows;     ///< row of each slot
  SlotMap slots;
};

/// A column shard's buffers; they live over the stages of a step.
struct ShardScratch : Scratch {
  std::vector<float> sums;  ///< [slots, 2]
};

class CpuTableBatch : public TableBatch {
 public:
  CpuTableBatch(std::vector<TableSpec> tables, std::vector<FeatureSpec> features, const OptimizerSpec& optimizer,
                int threads)
      : specs_(std::move(tables)),
        features_(std::move(features)),
        optimizer_(optimizer),
        kernels_(ChooseKernels()),
        pool_(std::max(1, threads)),
        scratch_(pool_.size()) {
    for (const TableSpec& spec : specs_) tables_.emplace_back(spec, optimizer);
    for (size_t f = 0; f < features_.size(); ++f) tables_[features_[f].table].features.push_back(static_cast<int>(f));
  }

  std::span<const TableSpec> tables() const override { return specs_; }
  std::span<const FeatureSpec> features() const override { return features_; }

  void Forward(std::span<const Jagged> jagged, int64_t rows, float* out, int64_t out_stride) override {
    // Runs of rows small enough that a run's output stays in the cache, taken by whichever thread is free.
    constexpr int64_t kRun = 256;
    const int64_t runs = (rows + kRun - 1) / kRun, units = runs * static_cast<int64_t>(features_.size());
    std::atomic<int64_t> next{0};
    pool_.Run([&](int) {
      int64_t outside = 0;
      for (int64_t unit; (unit = next.fetch_add(1, std::memory_order_relaxed)) < units;) {
        const int64_t begin = unit % runs * kRun, end = std::min(rows, begin + kRun);
        outside += ForwardRun(static_cast<int>(unit / runs), jagged[unit / runs], begin, end, out, out_stride);
      }
      out_of_range_.fetch_add(outside, std::memory_order_relaxed);
    });
  }

  void BackwardUpdate(std::span<const Jagged> jagged, int64_t rows, const float* grad, int64_t grad_stride,
                      float grad_scale, float lr, const AddOverColumnShards& add) override {
    ++iteration_;
    StepConstants step{optimizer_, lr};
    const double t = static_cast<double>(iteration_);
    step.correction1 = static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(optimizer_.beta1), t)));
    step.correction2 = static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(optimizer_.beta2), t)));
    // With fewer tables than a few per thread, a table is cut into slices of rows.
    const int64_t slices =
        pool_.size() == 1 || tables_.size() >= 4 * static_cast<size_t>(pool_.size()) ? 1 : pool_.size();
    const int64_t units = static_cast<int64_t>(tables_.size()) * slices;
    std::atomic<int64_t> next{0};
    pool_.Run([&](int thread) {
      for (int64_t unit; (unit = next.fetch_add(1, std::memory_order_relaxed)) < units;) {
        Table& table = tables_[unit / slices];
        if (!table.spec.trainable || table.spec.rows == 0 || Staged(table.spec, optimizer_, add)) continue;
        const int64_t slice = unit % slices;
        const int64_t first = table.spec.rows * slice / slices, last = table.spec.rows * (slice + 1) / slices;
        SumGradients(table, first, last, jagged, {rows, grad, grad_stride, grad_scale}, scratch_[thread]);
        if (table.keeper) table.keeper->Keep(scratch_[thread].rows);
        UpdateRows(table, step, scratch_[thread]);
      }
    });
    if (add && RowSumStages(optimizer_.type) > 0)
      UpdateInStages(jagged, {rows, grad, grad_stride, grad_scale}, step, add);
  }

  void AccumulateGradients(std::span<const Jagged> jagged, int64_t rows, const float* grad, int64_t grad_stride,
                           std::span<float* const> out) override {
    std::atomic<int64_t> next{0};
    pool_.Run([&](int) {
      for (int64_t t; (t = next.fetch_add(1, std::memory_order_relaxed)) < static_cast<int64_t>(tables_.size());) {
        if (!out[t] || tables_[t].spec.rows == 0) continue;
        const int64_t dim = tables_[t].spec.dim;
        const auto to = [&](int64_t row) { return row * dim; };
        AddGradients(tables_[t], jagged, {rows, grad, grad_stride, 1.f}, 0.f, to, out[t]);
      }
    });
  }

  float* weights(int table) override { return tables_[table].weights.data(); }

  std::vector<StateView> state(int index) override {
    Table& table = tables_[index];
    std::vector<StateView> views;
    auto add = [&](const char* name, StateShape shape, Rows& rows) {
      if (shape == StateShape::kNone) return;
      views.push_back({name, rows.data(), table.spec.rows, shape == StateShape::kRow ? 0 : table.spec.dim});
    };
    add("momentum1", table.shapes.first, table.state1);
    add(optimizer_.type == OptimizerType::kAdadelta ? "acc_delta" : "exp_avg_sq", table.shapes.second, table.state2);
    return views;
  }

  std::unique_ptr<TableSnapshot> Snapshot() override { return std::make_unique<Kept>(*this); }

  int64_t iteration() const override { return iteration_; }
  void set_iteration(int64_t iteration) override { iteration_ = iteration; }
  int64_t out_of_range() const override { return out_of_range_.load(std::memory_order_relaxed); }

 private:
  /// Returns how many ids were outside the table.
  int64_t ForwardRun(int feature_index, const Jagged& ids, int64_t begin, int64_t end, float* out, int64_t out_stride) {
    const FeatureSpec& feature = features_[feature_index];
    Table& table = tables_[feature.table];
    const int64_t dim = table.spec.dim, table_rows = table.spec.rows;
    const float* weights = table.weights.data();
    const bool gathers = !ids.weights && table_rows > 0;
    out += feature.out_column;
    int64_t outside = 0;
    for (int64_t b = begin; b < end; ++b) {
      // Most features have one id a row: its row is the answer.
      int64_t longer = b;
      while (gathers && longer < end && ids.offsets[longer + 1] - ids.offsets[longer] <= 1) ++longer;
      if (longer > b) {
        outside += kernels_.gather(weights, table_rows, ids.values, ids.offsets + b, longer - b, out + b * out_stride,
                                   out_stride, dim);
        b = longer;
        if (b == end) break;
      }
      float* target = out + b * out_stride;
      const int64_t from = ids.offsets[b], to = ids.offsets[b + 1], last = ids.offsets[end];
      std::memset(target, 0, sizeof(float) * dim);
      for (int64_t i = from; i < to; ++i) {
        if (i + kPrefetch < last) __builtin_prefetch(weights + RowOf(ids.values[i + kPrefetch], table_rows) * dim);
        const int64_t id = RowOf(ids.values[i], table_rows);
        outside += id != ids.values[i];
        if (table_rows == 0) continue;
        kernels_.accumulate(target, weights + id * dim, ids.weights ? ids.weights[i] : 1.f, dim);
      }
      if (feature.pooling == Pooling::kMean && to - from > 1) {
        kernels_.scale(target, 1.f / static_cast<float>(to - from), dim);
      }
    }
    return outside;
  }

  /// d loss / d output, as BackwardUpdate gets it.
  struct Gradient {
    int64_t rows;
    const float* data;
    int64_t stride;
    float scale;
  };

  /// The summed gradient of every touched row in [first, last).
  void SumGradients(Table& table, int64_t first, int64_t last, std::span<const Jagged> jagged, const Gradient& gradient,
                    Scratch& scratch) {
    const int64_t rows = gradient.rows;
    const int64_t dim = table.spec.dim;
    scratch.rows.clear();
    size_t needed = 0;
    for (const int f : table.features) needed += jagged[f].offsets[rows] - jagged[f].offsets[0];
    if (scratch.gradients.size() < needed * dim) scratch.gradients.resize(needed * dim);
    if (scratch.rows.capacity() < needed) scratch.rows.reserve(needed);
    scratch.slots.Clear(needed, first, last);
    float* gradients = scratch.gradients.data();
    const auto slot = [&](int64_t row) -> int64_t {
      if (row < first || row >= last) return -1;
      uint32_t& entry = scratch.slots.Find(row, scratch.rows);
      if (entry == 0) {
        std::memset(gradients + scratch.rows.size() * dim, 0, sizeof(float) * dim);
        scratch.rows.push_back(row);
        entry = static_cast<uint32_t>(scratch.rows.size());
      }
      return static_cast<int64_t>(entry - 1) * dim;
    };
    AddGradients(table, jagged, gradient, optimizer_.max_gradient, slot, gradients);
  }

  /// Adds each bag's gradient to those of its rows. `to` tells where in `out` a row's is, -1: nowhere. The places of
  /// many rows are found before the first addition, which then fetches them ahead.
  template <typename Place>
  void AddGradients(const Table& table, std::span<const Jagged> jagged, const Gradient& gradient, float bound, Place to,
                    float* out) {
    std::array<GradientPart, 256> parts;
    size_t count = 0;
    const auto add = [&] {
      kernels_.add_gradients(parts.data(), static_cast<int64_t>(count), gradient.data, gradient.scale, bound, out,
                             table.spec.dim);
      count = 0;
    };
    for (const int f : table.features) {
      const FeatureSpec& feature = features_[f];
      const Jagged& ids = jagged[f];
      for (int64_t b = 0; b < gradient.rows; ++b) {
        const int64_t begin = ids.offsets[b], end = ids.offsets[b + 1];
        const float mean =
            feature.pooling == Pooling::kMean ? 1.f / static_cast<float>(std::max<int64_t>(end - begin, 1)) : 1.f;
        for (int64_t i = begin; i < end; ++i) {
          const int64_t place = to(RowOf(ids.values[i], table.spec.rows));
          if (place < 0) continue;
          parts[count++] = {place, b * gradient.stride + feature.out_column,
                            ids.weights ? mean * ids.weights[i] : mean};
          if (count == parts.size()) add();
        }
      }
    }
    add();
  }

  void UpdateRows(Table& table, const StepConstants& step, Scratch& scratch) {
    const int64_t dim = table.spec.dim;
    kernels_.update(step, {scratch.rows.data(), static_cast<int64_t>(scratch.rows.size()), dim, table.weights.data(),
                           table.state1.data(), table.state2.data(), StateWidth(table.shapes.first, dim),
                           StateWidth(table.shapes.second, dim), scratch.gradients.data()});
  }

  /// Column shards of optimizers that need sums over the whole row.
  void UpdateInStages(std::span<const Jagged> jagged, const Gradient& gradient, const StepConstants& step,
                      const AddOverColumnShards& add) {
    std::vector<int> shards;
    for (size_t t = 0; t < tables_.size(); ++t) {
      const TableSpec& spec = tables_[t].spec;
      if (spec.trainable && Staged(spec, optimizer_, add)) shards.push_back(static_cast<int>(t));
    }
    shard_scratch_.resize(shards.size());
    auto for_each_shard = [&](auto action) {
      std::atomic<size_t> next{0};
      pool_.Run([&](int) {
        for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < shards.size();) {
          action(tables_[shards[i]], shard_scratch_[i]);
        }
      });
    };
    auto for_each_row = [&](auto action) {
      for_each_shard([&](Table& table, ShardScratch& scratch) {
        const int64_t dim = table.spec.dim;
        const int64_t width1 = StateWidth(table.shapes.first, dim), width2 = StateWidth(table.shapes.second, dim);
        for (size_t s = 0; s < scratch.rows.size(); ++s) {
          const int64_t row = scratch.rows[s];
          action(table, table.weights.data() + row * dim, table.state1.data() + row * width1,
                 table.state2.data() + row * width2, scratch.gradients.data() + s * dim, scratch.sums.data() + 2 * s);
        }
      });
    };
    for_each_shard([&](Table& table, ShardScratch& scratch) {
      SumGradients(table, 0, table.spec.rows, jagged, gradient, scratch);
      if (table.keeper) table.keeper->Keep(scratch.rows);
      scratch.sums.assign(2 * scratch.rows.size(), 0.f);
    });
    for (int stage = 0; stage < RowSumStages(optimizer_.type); ++stage) {
      for_each_row([&](Table& table, float* row, float* state1, float* state2, float* g, float* sums) {
        kernels_.sum_row(step, stage, row, state1, state2, g, table.spec.dim, table.spec.whole_dim, sums);
      });
      std::vector<ShardRowSums> sums;
      for (size_t i = 0; i < shards.size(); ++i) sums.push_back({shards[i], shard_scratch_[i].sums});
      add(sums);
    }
    for_each_row([&](Table& table, float* row, float* state1, float* state2, float* g, float* sums) {
      kernels_.finish_row(step, row, state1, state2, g, table.spec.dim, table.spec.whole_dim, sums);
    });
  }

  class Kept : public TableSnapshot {
   public:
    explicit Kept(CpuTableBatch& batch) : tables_(batch.tables_) {
      for (Table& table : tables_) {
        std::vector<RowKeeper::Part> parts;
        for (const auto& [rows, width] : {std::pair{&table.weights, table.spec.dim},
                                          std::pair{&table.state1, StateWidth(table.shapes.first, table.spec.dim)},
                                          std::pair{&table.state2, StateWidth(table.shapes.second, table.spec.dim)}}) {
          if (width > 0) parts.push_back({rows->data(), width});
        }
        table.keeper = std::make_unique<RowKeeper>(table.spec.rows, std::move(parts));
      }
    }
    ~Kept() override {
      for (Table& table : tables_) table.keeper.reset();
    }
    void Read(int table, int part, int64_t first, int64_t count, float* out) const override {
      tables_[table].keeper->Read(part, first, count, out);
    }

   private:
    std::vector<Table>& tables_;
  };

  std::vector<TableSpec> specs_;
  std::vector<FeatureSpec> features_;
  OptimizerSpec optimizer_;
  const RowKernels& kernels_;
  WorkerPool pool_;
  std::vector<Scratch> scratch_;
  std::vector<ShardScratch> shard_scratch_;
  std::vector<Table> tables_;
  int64_t iteration_ = 0;
  std::atomic<int64_t> out_of_range_{0};
};

}  // namespace

std::unique_ptr<TableBatch> MakeCpuTableBatch(std::vector<TableSpec> tables, std::vector<FeatureSpec> features,
                                              const OptimizerSpec& optimizer, int threads) {
  return std::make_unique<CpuTableBatch>(std::move(tables), std::move(features), optimizer, threads);
}

}  // namespace anneal::embedding
