#include "worker/embedding/sharded_embedding.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <iterator>
#include <map>

namespace anneal::embedding {
namespace {

/// Those of both kinds: bag tables first.
class JoinedSnapshot : public TableSnapshot {
 public:
  JoinedSnapshot(std::unique_ptr<TableSnapshot> pooled, std::unique_ptr<TableSnapshot> elements,
                 int first_element_table)
      : pooled_(std::move(pooled)), elements_(std::move(elements)), first_element_table_(first_element_table) {}

  void Read(int table, int part, int64_t first, int64_t count, float* out) const override {
    if (table < first_element_table_) return pooled_->Read(table, part, first, count, out);
    elements_->Read(table - first_element_table_, part, first, count, out);
  }

 private:
  std::unique_ptr<TableSnapshot> pooled_, elements_;
  int first_element_table_;
};

void Append(std::vector<Shard>& shards, std::vector<Shard> more) {
  shards.insert(shards.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

}  // namespace

std::vector<PlannedTable> TablesOf(const models::EmbeddingPlan& plan) {
  std::vector<PlannedTable> tables;
  for (const auto& table : plan.tables)
    tables.push_back({table.module_path(), table.name, table.rows, table.dim, table.constraints, 0});
  for (const auto& lookup : plan.lookups) tables[lookup.table].lookups += std::max<int64_t>(lookup.length, 1);
  return tables;
}

ShardedEmbedding::ShardedEmbedding(const models::EmbeddingPlan& plan, std::vector<TablePlacement> placements,
                                   const OptimizerSpec& optimizer, dist::ProcessGroup& group, int threads)
    : plan_(plan),
      placements_(std::move(placements)),
      group_(group),
      pooled_(plan, LookupKind::kPooled, placements_, optimizer, group, threads) {
  const auto sequence = [](const models::Table& table) { return table.sequence; };
  if (std::any_of(plan.tables.begin(), plan.tables.end(), sequence)) {
    elements_ = std::make_unique<ShardedTables>(plan, LookupKind::kElements, placements_, optimizer, group, threads);
  }
}

ShardedEmbedding::~ShardedEmbedding() = default;

void ShardedEmbedding::Initialize(uint64_t seed) {
  pooled_.Initialize(seed);
  if (elements_) elements_->Initialize(seed);
}

void ShardedEmbedding::set_learning_rate(double rate) {
  pooled_.set_learning_rate(static_cast<float>(rate));
  if (elements_) elements_->set_learning_rate(static_cast<float>(rate));
}

LookedUp ShardedEmbedding::Forward(const data::Batch& batch) {
  const bool arrived = TakePrefetched(batch);
  std::array<at::Tensor, 2> found;
  for (size_t k = 0; k < kKinds.size(); ++k) {
    ShardedTables* const tables = Tables(kKinds[k]);
    if (!tables) continue;
    TakeInput(plan_, kKinds[k], batch, inputs_[k]);
    found[k] = tables->Forward(inputs_[k], arrived ? &ahead_->kinds[k].ids : nullptr);
  }
  // Sequences of dense features alone.
  if (!elements_ && !plan_.sequence_groups.empty()) found[1] = at::empty({0, 0}, found[0].options());
  return {found[0], found[1]};
}

void ShardedEmbedding::Prefetch(const data::Batch& batch) {
  if (!ahead_) {
    auto beside = group_.Beside();
    if (!beside) return;
    ahead_ = std::make_unique<Ahead>();
    ahead_->group = std::move(beside);
    for (size_t k = 0; k < kKinds.size(); ++k) {
      ShardedTables* const tables = Tables(kKinds[k]);
      if (tables) ahead_->kinds[k].exchange = std::make_unique<IdExchange>(tables->MakeExchange(*ahead_->group));
    }
  }
  DropPrefetch();
  ahead_->batch = &batch;
  ahead_->done = std::async(std::launch::async, [this] {
    for (size_t k = 0; k < kKinds.size(); ++k) {
      Ahead::OfKind& kind = ahead_->kinds[k];
      if (!kind.exchange) continue;
      TakeInput(plan_, kKinds[k], *ahead_->batch, kind.input);
      kind.exchange->Run(kind.input, kind.ids);
    }
  });
}

void ShardedEmbedding::DropPrefetch() {
  if (ahead_ && ahead_->done.valid()) ahead_->done.get();
}

// False where nothing was prefetched, and where that failed: then the main group fails as well, which names the step
// and the rank to blame.
bool ShardedEmbedding::TakePrefetched(const data::Batch& batch) {
  if (!ahead_ || !ahead_->done.valid() || ahead_->batch != &batch) return false;
  try {
    ahead_->done.get();
  } catch (const std::exception&) {
    return false;
  }
  return true;
}

void ShardedEmbedding::BackwardUpdate(const LookedUp& gradient, double learning_rate, float scale) {
  const float rate = static_cast<float>(learning_rate);
  pooled_.BackwardUpdate(gradient.pooled, rate, scale);
  if (elements_) elements_->BackwardUpdate(gradient.elements, rate, scale);
}

void ShardedEmbedding::AccumulateDenseGradients(const LookedUp& gradient) {
  pooled_.AccumulateDenseGradients(gradient.pooled);
  if (elements_) elements_->AccumulateDenseGradients(gradient.elements);
}

std::vector<nn::NamedTensor> ShardedEmbedding::dense_tables() const {
  std::vector<nn::NamedTensor> tables = pooled_.dense_tables();
  if (elements_) tables.insert(tables.end(), elements_->dense_tables().begin(), elements_->dense_tables().end());
  return tables;
}

std::vector<double> ShardedEmbedding::group_factors() const {
  // In the order in which they come.
  const auto number = [](auto& seen, const auto& value) {
    const auto found = std::find(seen.begin(), seen.end(), value);
    if (found != seen.end()) return found - seen.begin();
    seen.push_back(value);
    return static_cast<std::ptrdiff_t>(seen.size()) - 1;
  };
  std::vector<std::string> modules;
  std::map<std::string, std::vector<int64_t>> widths;  // of a module's sequence tables
  std::map<std::pair<int64_t, int64_t>, std::vector<double>> groups;
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    const models::Table& table = plan_.tables[t];
    if (placements_[t].dense()) continue;
    // Sequence tables behind the two poolings.
    const int64_t group = table.sequence ? 2 + number(widths[table.module + table.data_group], table.dim)
                                         : static_cast<int64_t>(table.pooling);
    auto& factors = groups[{number(modules, table.module + table.data_group), group}];
    const double factor = table.trainable ? 1.0 : 0.0;
    if (std::find(factors.begin(), factors.end(), factor) == factors.end()) factors.push_back(factor);
  }
  std::vector<double> all;
  for (const auto& [group, factors] : groups) all.insert(all.end(), factors.begin(), factors.end());
  return all;
}

std::vector<Shard> ShardedEmbedding::weights() {
  std::vector<Shard> shards = pooled_.weights(0);
  if (elements_) Append(shards, elements_->weights(pooled_.count()));
  return shards;
}

std::vector<Shard> ShardedEmbedding::state() {
  std::vector<Shard> shards = pooled_.state(0);
  if (elements_) Append(shards, elements_->state(pooled_.count()));
  return shards;
}

std::unique_ptr<TableSnapshot> ShardedEmbedding::Snapshot() {
  auto pooled = pooled_.Snapshot();
  if (!pooled || !elements_) return pooled;
  return std::make_unique<JoinedSnapshot>(std::move(pooled), elements_->Snapshot(), pooled_.count());
}

void ShardedEmbedding::set_iteration(int64_t iteration) {
  pooled_.set_iteration(iteration);
  if (elements_) elements_->set_iteration(iteration);
}

int64_t ShardedEmbedding::out_of_range() const {
  return pooled_.out_of_range() + (elements_ ? elements_->out_of_range() : 0);
}

}  // namespace anneal::embedding
