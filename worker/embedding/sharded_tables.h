// The tables of one kind over all ranks: lookup of a batch, and the fused update from the gradient.
//
// Several ranks: ids travel to the ranks that hold their rows (IdExchange), are looked up there for the rows of all
// ranks, and the pieces travel back (output all-to-all), where those of one lookup are put together: blocks of columns
// side by side, blocks of rows added up. The gradient takes the same way in reverse. Gradients are averaged over ranks
// like the dense ones, so the same global batch gives the same update on any number of ranks and with any sharding.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "worker/dist/process_group.h"
#include "worker/embedding/column_sums.h"
#include "worker/embedding/id_exchange.h"
#include "worker/embedding/lookup_pieces.h"
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
  LookupKind kind = LookupKind::kPooled;

  at::Tensor tensor() const;  ///< the piece: [rows, dim] or [rows], sharing its memory
};

class ShardedTables {
 public:
  /// Tables of `kind` among the plan's; `placements` of all of them.
  ShardedTables(const models::EmbeddingPlan& plan, LookupKind kind, const std::vector<TablePlacement>& placements,
                const OptimizerSpec& optimizer, dist::ProcessGroup& group, int threads);

  /// The same values on any number of ranks for one seed.
  void Initialize(uint64_t seed);

  /// See TableBatch.
  void set_learning_rate(float rate) { tables_->set_learning_rate(rate); }

  /// An exchange of these tables' ids over another group of the same ranks.
  IdExchange MakeExchange(dist::ProcessGroup& group) const;

  /// What the input's bags hold: [input.rows, width of the kind] float32. A collective: every rank calls it once a
  /// step. An input of no rows takes part with nothing. The input and what it points into have to be alive until the
  /// update. `arrived`: these ids came by an exchange of MakeExchange's already; taken from there.
  at::Tensor Forward(const LookupInput& input, ExchangedIds* arrived = nullptr);

  int64_t global_rows() const { return ids_.global_rows; }  ///< rows of the last Forward's input over all ranks

  /// Fused backward and update from the gradient of the last Forward's result, multiplied by `scale` first. A
  /// collective.
  void BackwardUpdate(const at::Tensor& gradient, float learning_rate, float scale);

  /// Adds the gradient of the last Forward's result to .grad() of the dense tables. Not a collective.
  void AccumulateDenseGradients(const at::Tensor& gradient);

  /// Data-parallel tables as parameters [rows, dim] of the dense optimizer, by state name.
  const std::vector<nn::NamedTensor>& dense_tables() const { return dense_tables_; }

  /// Of the fused tables. Shard::table counts from `first`.
  std::vector<Shard> weights(int first);
  std::vector<Shard> state(int first);
  int count() const { return static_cast<int>(tables_->tables().size()); }  ///< of the fused tables here
  std::unique_ptr<TableSnapshot> Snapshot() { return tables_->Snapshot(); }
  bool clamps_gradients() const { return optimizer_.max_gradient > 0; }
  int64_t iteration() const { return tables_->iteration(); }
  void set_iteration(int64_t iteration) { tables_->set_iteration(iteration); }
  int64_t out_of_range() const { return tables_->out_of_range() + dense_batch_->out_of_range(); }

 private:
  at::TensorOptions Options() const { return at::TensorOptions().device(group_.device()).dtype(at::kFloat); }
  bool Mine(const models::Table& table) const { return KindOf(table) == kind_; }
  void FillRows(float* rows, int64_t count, int64_t columns, const std::function<void(float*)>& fill);
  void MakeFusedTables(int threads);
  void MakeDenseTables(int threads);
  at::Tensor ForwardLocal();
  at::Tensor ForwardExchanged(ExchangedIds* arrived);

  /// Elements to and from each rank of the output all-to-all: what this rank serves, and what it asked for.
  struct BlockSizes {
    std::vector<int64_t> served, asked;
    int64_t asked_elements = 0;
  };
  BlockSizes Sizes() const;

  const models::EmbeddingPlan& plan_;
  const LookupKind kind_;
  const int64_t width_;
  const bool weighted_;
  const std::vector<TablePlacement>& placements_;
  OptimizerSpec optimizer_;
  dist::ProcessGroup& group_;
  std::vector<TableShard> shards_;  ///< per table of the plan: what this rank holds of it
  std::vector<int> local_index_;    ///< per table of the plan: index in tables_, -1 when not here
  std::unique_ptr<TableBatch> tables_;
  std::unique_ptr<IdExchange> exchange_;
  std::unique_ptr<LookupPieces> pieces_;
  std::unique_ptr<ColumnSums> column_sums_;
  std::vector<int> fused_lookups_, dense_lookups_;  ///< of the plan
  std::unique_ptr<TableBatch> dense_batch_;         ///< owns the dense tables' rows
  std::vector<nn::NamedTensor> dense_tables_;       ///< views of them, one per table of dense_batch_
  std::vector<int> dense_index_;                    ///< per table of the plan: index in dense_tables_, -1 when fused
  // The last Forward's.
  const LookupInput* input_ = nullptr;
  ExchangedIds ids_;           ///< of this rank's fused tables
  std::vector<Jagged> dense_;  ///< of the dense tables
};

}  // namespace anneal::embedding
