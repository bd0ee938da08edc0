// The model's tables over all ranks: lookup of a batch, and the fused update from the gradient.
//
// Several ranks: ids travel to the ranks that hold their rows (IdExchange), are looked up there for the global batch,
// and pooled pieces travel back (output all-to-all), where those of one lookup are put together: blocks of columns side
// by side, blocks of rows added up. The gradient takes the same way in reverse. Gradients are averaged over ranks like
// the dense ones, so the same global batch gives the same update on any number of ranks and with any sharding.
//
// Sequence tables would travel the same way, one output row per id instead of per bag: the asking rank knows the order
// of the ids that it sent, so it needs no more than that to put them back.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "worker/data/batch.h"
#include "worker/dist/process_group.h"
#include "worker/embedding/column_sums.h"
#include "worker/embedding/id_exchange.h"
#include "worker/embedding/pooled_pieces.h"
#include "worker/embedding/sharding_plan.h"
#include "worker/embedding/table_batch.h"
#include "worker/models/embedding_group.h"
#include "worker/nn/module.h"

namespace anneal::embedding {

/// A piece of a table or of its optimizer state that this rank holds: rows [row_begin, row_begin + rows) and columns
/// [column_begin, column_begin + dim) of [global_rows, global_dim], row-major. dim 0: one value per row.
struct Shard {
  std::string name;  ///< state name: "<table state name>" or "<table state name>//<table>.<state>"
  float* data = nullptr;
  int64_t global_rows = 0, row_begin = 0, rows = 0;
  int64_t global_dim = 0, column_begin = 0, dim = 0;
  bool copy = false;             ///< another rank holds the same values and saves them
  at::Device device = at::kCPU;  ///< that `data` is memory of
  int table = 0, part = 0;       ///< where a TableSnapshot has it

  at::Tensor tensor() const;  ///< the piece: [rows, dim] or [rows], sharing its memory
};

class ShardedEmbedding {
 public:
  ShardedEmbedding(const models::EmbeddingPlan& plan, std::vector<TablePlacement> placements,
                   const OptimizerSpec& optimizer, dist::ProcessGroup& group, int threads);
  ~ShardedEmbedding();

  /// Initialises this rank's rows from the tables' init_fn; the same values on any number of ranks for one seed.
  void Initialize(uint64_t seed);

  /// See TableBatch.
  void set_learning_rate(double rate) { tables_->set_learning_rate(static_cast<float>(rate)); }

  /// Pooled embeddings [rows, plan.pooled_width] float32. A collective: every rank calls it once a step. A batch of no
  /// rows takes part with nothing.
  at::Tensor Forward(const data::Batch& batch);

  /// Sends the ids of the next Forward's batch on their way, beside whatever happens until then. A collective; other
  /// batches may be looked up in between. The batch has to be alive until its Forward or DropPrefetch.
  void Prefetch(const data::Batch& batch);
  /// Waits for what is on its way and forgets it. Every rank that prefetched calls it.
  void DropPrefetch();

  /// Rows of the last Forward's batch over all ranks.
  int64_t global_rows() const;

  /// Fused backward and update from the gradient [rows, pooled_width] of the last Forward's result, multiplied by
  /// `scale` first. A collective. The batch given to Forward has to be alive still.
  void BackwardUpdate(const at::Tensor& gradient, double learning_rate, float scale = 1.0f);

  /// Adds the gradient of the last Forward's result to .grad() of the dense tables. Not a collective.
  void AccumulateDenseGradients(const at::Tensor& gradient);

  /// Data-parallel tables as parameters [rows, dim] of the dense optimizer, by state name.
  const std::vector<nn::NamedTensor>& dense_tables() const { return dense_tables_; }

  /// The base rates' factors of the fused tables' parameter groups in the order of lr_g: 1, or 0 for a group of frozen
  /// tables. Groups are formed as TorchEasyRec's kernels are: by pooling, then by trainability.
  std::vector<double> group_factors() const;

  std::vector<Shard> weights();  ///< of the fused tables
  std::vector<Shard> state();
  /// Both as they are now, see TableBatch::Snapshot.
  std::unique_ptr<TableSnapshot> Snapshot() { return tables_->Snapshot(); }
  int64_t iteration() const;
  void set_iteration(int64_t iteration);
  int64_t out_of_range() const;  ///< ids of this rank's shards that were outside their table
  const std::vector<TablePlacement>& placements() const { return placements_; }

 private:
  at::TensorOptions Options() const { return at::TensorOptions().device(group_.device()).dtype(at::kFloat); }
  void FillRows(float* rows, int64_t count, int64_t columns, const std::function<void(float*)>& fill);
  void MakeFusedTables(int threads);
  void MakeDenseTables(int threads);
  at::Tensor ForwardLocal(const data::Batch& batch);
  void ForwardDense(const data::Batch& batch, const at::Tensor& pooled);
  at::Tensor ForwardExchanged(const data::Batch& batch);
  bool TakePrefetched(const data::Batch& batch);

  /// Elements to and from each rank of the output all-to-all: what this rank serves, and what it asked for.
  struct BlockSizes {
    std::vector<int64_t> served, asked;
    int64_t asked_elements = 0;
  };
  BlockSizes Sizes() const;

  const models::EmbeddingPlan& plan_;
  std::vector<TablePlacement> placements_;
  OptimizerSpec optimizer_;
  dist::ProcessGroup& group_;
  std::vector<TableShard> shards_;  ///< per table of the plan: what this rank holds of it
  std::vector<int> local_index_;    ///< per table of the plan: index in tables_, -1 when not here
  std::unique_ptr<TableBatch> tables_;
  std::unique_ptr<IdExchange> exchange_;
  std::unique_ptr<PooledPieces> pieces_;
  /// The exchange of Prefetch, in a thread and a group of its own; none on one rank.
  struct Ahead {
    explicit Ahead(std::unique_ptr<dist::ProcessGroup> beside, const models::EmbeddingPlan& plan,
                   const std::vector<std::vector<ServedLookup>>& served)
        : group(std::move(beside)), exchange(plan, served, *group) {}
    std::unique_ptr<dist::ProcessGroup> group;
    IdExchange exchange;
    const data::Batch* batch = nullptr;
    ExchangedIds ids;
    std::future<void> done;  ///< valid while something is on its way
  };
  std::unique_ptr<Ahead> ahead_;
  std::unique_ptr<ColumnSums> column_sums_;
  std::vector<int> fused_lookups_, dense_lookups_;  ///< of the plan
  std::unique_ptr<TableBatch> dense_batch_;         ///< owns the dense tables' rows
  std::vector<nn::NamedTensor> dense_tables_;       ///< views of them, one per table of dense_batch_
  std::vector<int> dense_index_;                    ///< per table of the plan: index in dense_tables_, -1 when fused
  // The input of the last Forward.
  ExchangedIds ids_;           ///< of this rank's fused tables
  std::vector<Jagged> dense_;  ///< of the dense tables
  const data::Batch* batch_ = nullptr;
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
