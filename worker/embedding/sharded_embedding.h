// All of a model's tables over all ranks: bag tables and sequence tables, and the exchange of the next batch's ids
// beside a step.
#pragma once

#include <array>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "worker/data/batch.h"
#include "worker/dist/process_group.h"
#include "worker/embedding/lookup_input.h"
#include "worker/embedding/sharded_tables.h"
#include "worker/embedding/sharding_plan.h"
#include "worker/embedding/table_batch.h"
#include "worker/models/embedding_group.h"
#include "worker/nn/module.h"

namespace anneal::embedding {

/// What a batch's ids stand for, float32, and likewise the loss's gradient of it.
struct LookedUp {
  at::Tensor pooled;    ///< [rows, plan.pooled_width]
  at::Tensor elements;  ///< [E, plan.element_width], see models::Lookup; undefined in a model without sequence groups
};

class ShardedEmbedding {
 public:
  ShardedEmbedding(const models::EmbeddingPlan& plan, std::vector<TablePlacement> placements,
                   const OptimizerSpec& optimizer, dist::ProcessGroup& group, int threads);
  ~ShardedEmbedding();

  /// Initialises this rank's rows from the tables' init_fn; the same values on any number of ranks for one seed.
  void Initialize(uint64_t seed);

  /// See TableBatch.
  void set_learning_rate(double rate);

  /// A collective: every rank calls it once a step. A batch of no rows takes part with nothing.
  LookedUp Forward(const data::Batch& batch);

  /// Sends the ids of the next Forward's batch on their way, beside whatever happens until then. A collective; other
  /// batches may be looked up in between. The batch has to be alive until its Forward or DropPrefetch.
  void Prefetch(const data::Batch& batch);
  /// Waits for what is on its way and forgets it. Every rank that prefetched calls it.
  void DropPrefetch();

  /// The gradient of each row of a batch is clamped before rows of the same id are added up.
  bool clamps_gradients() const { return pooled_.clamps_gradients(); }

  /// Rows of the last Forward's batch over all ranks.
  int64_t global_rows() const { return pooled_.global_rows(); }

  /// Fused backward and update from the gradient of the last Forward's result, multiplied by `scale` first. A
  /// collective. The batch given to Forward has to be alive still.
  void BackwardUpdate(const LookedUp& gradient, double learning_rate, float scale = 1.0f);

  /// Adds the gradient of the last Forward's result to .grad() of the dense tables. Not a collective.
  void AccumulateDenseGradients(const LookedUp& gradient);

  /// Data-parallel tables as parameters [rows, dim] of the dense optimizer, by state name.
  std::vector<nn::NamedTensor> dense_tables() const;

  /// The base rates' factors of the fused tables' parameter groups in the order of lr_g: 1, or 0 for a group of frozen
  /// tables. Groups are formed as TorchEasyRec's kernels are: of each embedding group bag tables by pooling, then
  /// sequence tables by width, each by trainability.
  std::vector<double> group_factors() const;

  std::vector<Shard> weights();  ///< of the fused tables
  std::vector<Shard> state();
  /// Both as they are now, see TableBatch::Snapshot.
  std::unique_ptr<TableSnapshot> Snapshot();
  int64_t iteration() const { return pooled_.iteration(); }
  void set_iteration(int64_t iteration);
  int64_t out_of_range() const;  ///< ids of this rank's shards that were outside their table
  const std::vector<TablePlacement>& placements() const { return placements_; }

 private:
  static constexpr std::array<LookupKind, 2> kKinds = {LookupKind::kPooled, LookupKind::kElements};
  /// Null for a kind that the model has no tables of.
  ShardedTables* Tables(LookupKind kind) { return kind == LookupKind::kPooled ? &pooled_ : elements_.get(); }
  bool TakePrefetched(const data::Batch& batch);

  const models::EmbeddingPlan& plan_;
  std::vector<TablePlacement> placements_;
  dist::ProcessGroup& group_;
  ShardedTables pooled_;
  std::unique_ptr<ShardedTables> elements_;
  std::array<LookupInput, 2> inputs_;  ///< of the last Forward, by kind

  /// The exchange of Prefetch, in a thread and a group of its own; none on one rank.
  struct Ahead {
    struct OfKind {
      std::unique_ptr<IdExchange> exchange;
      LookupInput input;
      ExchangedIds ids;
    };
    std::unique_ptr<dist::ProcessGroup> group;
    std::array<OfKind, 2> kinds;
    const data::Batch* batch = nullptr;
    std::future<void> done;  ///< valid while something is on its way
  };
  std::unique_ptr<Ahead> ahead_;
};

/// The tables of a model as the planner sees them.
std::vector<PlannedTable> TablesOf(const models::EmbeddingPlan& plan);

/// Fields of a sparse_optimizer as the kernels take them; throws ConfigError for one that is not supported yet.
OptimizerSpec MakeOptimizerSpec(const tzrec::protos::SparseOptimizer& config);
/// Base learning rate of the sparse optimizer.
double SparseBaseLearningRate(const tzrec::protos::SparseOptimizer& config);
/// The name of the field that is set: adam_optimizer.
std::string SparseOptimizerName(const tzrec::protos::SparseOptimizer& config);

}  // namespace anneal::embedding
