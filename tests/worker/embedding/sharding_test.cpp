// Tables over 2 and 4 ranks, sharded every way and trained by every optimizer, learn what they learn on one rank; and
// what one layout saved, any other restores bit for bit.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <random>

#include "tests/worker/embedding/thread_group.h"
#include "worker/embedding/planner.h"
#include "worker/embedding/sharded_embedding.h"
#include "worker/eval/model_state.h"
#include "worker/models/sequence_assembly.h"

namespace anneal::embedding {
namespace {

constexpr int64_t kRows = 48;  // of a global batch; 1 to 4 ranks get as many each

/// Shared, wide, narrow and tiny tables; bags of several ids, SUM and MEAN. Sequence tables, one of a bag table's name:
/// two sequences side by side with a query, and one alone.
models::EmbeddingPlan TestPlan(bool weighted) {
  models::EmbeddingPlan plan;
  auto table = [&](const char* name, int64_t rows, int64_t dim, features::Pooling pooling) {
    models::Table entry;
    entry.name = name;
    entry.rows = rows;
    entry.dim = dim;
    entry.pooling = pooling;
    entry.init_fn = "nn.init.uniform_,a=-0.5,b=0.5";
    plan.tables.push_back(entry);
  };
  table("shared", 50, 8, features::Pooling::kSum);
  table("wide", 37, 20, features::Pooling::kMean);
  table("narrow", 11, 4, features::Pooling::kMean);
  table("tiny", 3, 6, features::Pooling::kSum);
  table("frozen", 20, 8, features::Pooling::kSum);
  plan.tables.back().trainable = false;
  table("shared", 50, 8, features::Pooling::kSum);
  plan.tables.back().sequence = true;
  table("events", 23, 12, features::Pooling::kMean);
  plan.tables.back().sequence = true;
  auto lookup = [&](int feature, int t, bool per_element) {
    int64_t& width = plan.tables[t].sequence ? plan.element_width : plan.pooled_width;
    plan.lookups.push_back({feature, t, width, plan.tables[t].dim, per_element, /*length=*/1, plan.tables[t].pooling});
    width += plan.tables[t].dim;
    return models::SequencePart{true, feature, plan.lookups.back().column, plan.tables[t].dim};
  };
  int feature = 0;
  for (const int t : {0, 1, 0, 2, 3, 4}) lookup(feature++, t, false);
  plan.sequence_groups.push_back({"both", 0, {lookup(2, 5, false)}, {lookup(6, 5, true), lookup(7, 6, true)}, 8, 20});
  plan.sequence_groups.push_back({"alone", 0, {}, {lookup(8, 5, true)}, 0, 8});
  plan.weighted = weighted;
  return plan;
}

/// Rows [begin, end) of the global batch of a step: bags of 0 to 3 ids, one in 40 of them outside its table.
data::Batch BatchOf(const models::EmbeddingPlan& plan, int64_t step, int64_t begin, int64_t end) {
  data::Batch batch;
  batch.rows = end - begin;
  batch.sparse.offsets.push_back(0);
  for (int feature = 0; feature < 9; ++feature) {
    const auto reads = [=](const models::Lookup& lookup) { return lookup.feature == feature; };
    const auto lookup = std::find_if(plan.lookups.begin(), plan.lookups.end(), reads);
    for (int64_t row = begin; row < end; ++row) {
      std::mt19937_64 random((step * 1000 + feature) * 1000 + row);
      const int64_t table_rows = plan.tables[lookup->table].rows;
      // The second sequence is as long as the first, beside which it stands.
      const int64_t ids = std::mt19937_64((step * 1000 + (feature == 7 ? 6 : feature)) * 1000 + row)() % 4;
      for (int64_t i = 0; i < ids; ++i) {
        const bool outside = random() % 40 == 0;
        batch.sparse.values.push_back(outside ? table_rows + 5 : static_cast<int64_t>(random() % table_rows));
        if (plan.weighted) batch.sparse.weights.push_back(0.5f + static_cast<float>(random() % 100) / 100);
      }
      batch.sparse.offsets.push_back(static_cast<int64_t>(batch.sparse.values.size()));
    }
  }
  return batch;
}

/// Numbers of both signs, the same for every row.
at::Tensor Direction(int64_t width) { return at::sin(at::arange(width, at::kFloat) * 1.7f + 0.3f); }

/// Logistic loss of a fixed combination of the pooled columns, the queries and the sums of the sequences; the gradient
/// comes from LibTorch.
double LossAndGradient(const models::EmbeddingPlan& plan, const data::Batch& batch, LookedUp found, int64_t step,
                       int64_t begin, LookedUp* gradient) {
  const int64_t rows = batch.rows;
  const at::Tensor labels =
      at::remainder(at::arange(begin, begin + rows, at::kFloat) * 7 + static_cast<double>(step), 3)
          .lt(1)
          .to(at::kFloat);
  found.pooled.set_requires_grad(true);
  found.elements.set_requires_grad(true);
  at::Tensor logit = at::tanh(found.pooled).matmul(Direction(plan.pooled_width));
  const models::SequenceLayout layout = models::LayoutOf(plan, batch);
  for (const auto& group : models::AssembleSequences(plan, layout, found.elements, at::empty({rows, 0}))) {
    logit = logit + at::tanh(group.sequence).sum(1).matmul(Direction(group.sequence.size(2)));
    if (group.query.defined()) logit = logit + at::tanh(group.query).matmul(Direction(group.query.size(1)));
  }
  const at::Tensor loss = at::binary_cross_entropy_with_logits(logit, labels);
  loss.backward();
  *gradient = {found.pooled.grad(), found.elements.grad()};
  return loss.item<double>();
}

struct Trained {
  std::vector<double> losses;
  std::map<std::string, at::Tensor> tensors;  // whole tables and states at the end
  int64_t out_of_range = 0;
};

using Placements = std::function<std::vector<TablePlacement>(const models::EmbeddingPlan&)>;

/// Puts a rank's shards into the whole tensors; copies are compared with what the others have.
void Collect(const std::vector<Shard>& shards, bool copies, Trained& run) {
  for (const Shard& shard : shards) {
    if (shard.copy != copies) continue;
    const int64_t columns = std::max<int64_t>(shard.dim, 1);
    at::Tensor& whole = run.tensors[shard.name];
    if (!whole.defined()) whole = at::full({shard.global_rows, std::max<int64_t>(shard.global_dim, 1)}, NAN);
    at::Tensor part = whole.narrow(0, shard.row_begin, shard.rows).narrow(1, shard.column_begin, columns);
    const at::Tensor held = at::from_blob(shard.data, {shard.rows, columns}, at::kFloat);
    if (copies) {
      EXPECT_TRUE(at::equal(part, held)) << shard.name << ": blocks of columns have different statistics";
    } else {
      part.copy_(held);
    }
  }
}

/// Trains from step `first` to `last`. `restore` and `save` see the tables of every rank before and after.
Trained Train(int ranks, int local, const Placements& place, const OptimizerSpec& optimizer, int64_t first,
              int64_t last, bool weighted = false, double rate = 0.05,
              const std::function<void(ShardedEmbedding&, dist::ProcessGroup&)>& restore = nullptr,
              const std::function<void(ShardedEmbedding&, dist::ProcessGroup&)>& save = nullptr) {
  Trained run;
  run.losses.resize(last - first);
  std::mutex mutex;
  const models::EmbeddingPlan plan = TestPlan(weighted);
  tests::RunRanks(ranks, local, [&](dist::ProcessGroup& group) {
    ShardedEmbedding tables(plan, place(plan), optimizer, group, 1 + group.rank() % 2);
    tables.Initialize(7);
    if (restore) restore(tables, group);
    const int64_t begin = kRows * group.rank() / ranks, end = kRows * (group.rank() + 1) / ranks;
    std::vector<data::Batch> batches;
    for (int64_t step = first; step <= last; ++step) batches.push_back(BatchOf(plan, step, begin, end));
    for (int64_t step = first; step < last; ++step) {
      LookedUp gradient;
      const LookedUp found = tables.Forward(batches[step - first]);
      // The ids of the next batch travel beside, or not; another batch may come between, as an evaluation does.
      if (step % 3 != 0) tables.Prefetch(batches[step - first + 1]);
      EXPECT_EQ(tables.global_rows(), kRows);
      const double loss = LossAndGradient(plan, batches[step - first], found, step, begin, &gradient);
      tables.BackwardUpdate(gradient, rate);
      if (step % 5 == 4) tables.Forward(BatchOf(plan, 1000 + step, begin, end));
      const std::lock_guard lock(mutex);
      run.losses[step - first] += loss / ranks;
    }
    tables.DropPrefetch();
    if (save) save(tables, group);
    for (const bool copies : {false, true}) {
      {
        const std::lock_guard lock(mutex);
        Collect(tables.weights(), copies, run);
        Collect(tables.state(), copies, run);
        if (!copies) run.out_of_range += tables.out_of_range();
      }
      group.Barrier();
    }
  });
  return run;
}

Placements Planned(ShardingType type, const RankLayout& layout) {
  return [=](const models::EmbeddingPlan& plan) {
    tzrec::protos::ParameterConstraints constraints;
    constraints.add_sharding_types(ShardingTypeName(type));
    Hardware hardware;
    hardware.layout = layout;
    hardware.memory = 1e9;
    return PlanTables(TablesOf(plan), constraints, hardware, {}).placements;
  };
}

const ShardingType kTypes[] = {ShardingType::kTableWise,    ShardingType::kRowWise,         ShardingType::kColumnWise,
                               ShardingType::kTableRowWise, ShardingType::kTableColumnWise, ShardingType::kGrid};

OptimizerSpec Spec(OptimizerType type) {
  OptimizerSpec spec;
  spec.type = type;
  switch (type) {
    case OptimizerType::kRowwiseAdagrad:
      spec.weight_decay = 0.01f;
      spec.weight_decay_mode = WeightDecayMode::kL2;
      break;
    case OptimizerType::kSgd:
      spec.max_gradient = 0.01f;  // clamps before the division of MEAN
      break;
    case OptimizerType::kLamb:
    case OptimizerType::kPartialRowwiseLamb:
    case OptimizerType::kLarsSgd:
      spec.weight_decay = 0.02f;
      break;
    default:
      break;
  }
  if (type == OptimizerType::kLarsSgd) spec.eta = 0.5f;
  return spec;
}

class EveryOptimizer : public testing::TestWithParam<OptimizerType> {};

TEST_P(EveryOptimizer, LearnsTheSameOnAnyNumberOfRanks) {
  const OptimizerSpec spec = Spec(GetParam());
  const Trained one = Train(1, 1, Planned(ShardingType::kTableWise, {1, 1}), spec, 0, 60);
  const Trained start = Train(1, 1, Planned(ShardingType::kTableWise, {1, 1}), spec, 0, 0);
  for (const auto& table : TestPlan(false).tables) {
    EXPECT_EQ(at::equal(one.tensors.at(table.state_name()), start.tensors.at(table.state_name())), !table.trainable);
  }
  for (const ShardingType type : kTypes) {
    for (const RankLayout& layout : {RankLayout{2, 2}, RankLayout{2, 1}, RankLayout{4, 2}}) {
      SCOPED_TRACE(ShardingTypeName(type) + " over " + std::to_string(layout.world_size) + " ranks on " +
                   std::to_string(layout.hosts()) + " hosts");
      const Trained many = Train(layout.world_size, layout.local_world_size, Planned(type, layout), spec, 0, 60);
      for (size_t step = 0; step < 60; ++step) {
        ASSERT_NEAR(many.losses[step], one.losses[step], (step < 10 ? 1e-5 : 1e-4) * one.losses[step])
            << "step " << step;
      }
      EXPECT_EQ(many.out_of_range, one.out_of_range);
      ASSERT_EQ(many.tensors.size(), one.tensors.size());
      for (const auto& [name, tensor] : one.tensors) {
        EXPECT_TRUE(at::allclose(many.tensors.at(name), tensor, 1e-3, 1e-4)) << name;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Optimizers, EveryOptimizer,
                         testing::Values(OptimizerType::kSgd, OptimizerType::kAdagrad, OptimizerType::kRowwiseAdagrad,
                                         OptimizerType::kAdam, OptimizerType::kPartialRowwiseAdam, OptimizerType::kLamb,
                                         OptimizerType::kPartialRowwiseLamb, OptimizerType::kLarsSgd,
                                         OptimizerType::kAdadelta, OptimizerType::kRmsprop));

TEST(Sharding, WeightedIdsLearnTheSame) {
  const OptimizerSpec spec = Spec(OptimizerType::kRowwiseAdagrad);
  const Trained one = Train(1, 1, Planned(ShardingType::kTableWise, {1, 1}), spec, 0, 10, /*weighted=*/true);
  for (const ShardingType type : kTypes) {
    const Trained many = Train(4, 2, Planned(type, {4, 2}), spec, 0, 10, /*weighted=*/true);
    for (size_t step = 0; step < 10; ++step) {
      ASSERT_NEAR(many.losses[step], one.losses[step], 1e-5 * one.losses[step])
          << ShardingTypeName(type) << " " << step;
    }
  }
}

TEST(Sharding, ARankWithoutRowsTakesPart) {
  const models::EmbeddingPlan plan = TestPlan(false);
  tests::RunRanks(4, 2, [&](dist::ProcessGroup& group) {
    ShardedEmbedding tables(plan, Planned(ShardingType::kGrid, {4, 2})(plan), Spec(OptimizerType::kLamb), group, 1);
    tables.Initialize(7);
    const data::Batch batch = group.rank() == 2 ? BatchOf(plan, 0, 0, 5) : data::Batch{};
    const LookedUp found = tables.Forward(batch);
    EXPECT_EQ(found.pooled.size(0), group.rank() == 2 ? 5 : 0);
    EXPECT_EQ(found.elements.size(0) > 0, group.rank() == 2);
    EXPECT_EQ(tables.global_rows(), 5);
    tables.BackwardUpdate({at::ones_like(found.pooled), at::ones_like(found.elements)}, 0.1);
  });
}

/// Every rank's tables and optimizer state as a checkpoint.
auto SaveTo(const std::string& folder) {
  return [folder](ShardedEmbedding& tables, dist::ProcessGroup& group) {
    checkpoint::Contents contents;
    contents.model = eval::TablePieces(tables);
    contents.optimizer = eval::OptimizerPieces({}, tables, group.rank());
    std::string problem;
    const auto saved =
        checkpoint::Save(folder, contents, {group.rank(), group.world_size(), [&] { group.Barrier(); }}, &problem);
    EXPECT_NE(saved, "") << problem;
  };
}

auto RestoreFrom(const std::string& folder, int64_t iteration) {
  return [=](ShardedEmbedding& tables, dist::ProcessGroup&) {
    const checkpoint::Reader reader(checkpoint::CheckpointPath(folder, 0));
    eval::RestoreTables(reader, tables);
    eval::RestoreOptimizer(reader, {}, tables);
    tables.set_iteration(iteration);
  };
}

void ExpectSameBits(const Trained& a, const Trained& b) {
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, tensor] : a.tensors) EXPECT_TRUE(at::equal(tensor, b.tensors.at(name))) << name;
}

class Resharding : public testing::TestWithParam<OptimizerType> {};

TEST_P(Resharding, AnyLayoutRestoresAnyOther) {
  const OptimizerSpec spec = Spec(GetParam());
  namespace fs = std::filesystem;
  const std::string work = "resharding-" + std::to_string(static_cast<int>(GetParam()));
  fs::remove_all(work);
  int folder = 0;
  auto next = [&] {
    const std::string path = work + "/" + std::to_string(folder++);
    fs::create_directories(path);
    return path;
  };
  std::string from = next();
  const Trained start =
      Train(1, 1, Planned(ShardingType::kTableWise, {1, 1}), spec, 0, 10, false, 0.05, nullptr, SaveTo(from));
  const Trained straight = Train(1, 1, Planned(ShardingType::kTableWise, {1, 1}), spec, 0, 20);
  struct Layout {
    RankLayout ranks;
    ShardingType type;
  };
  for (const Layout& layout : std::initializer_list<Layout>{{{2, 1}, ShardingType::kColumnWise},
                                                            {{4, 2}, ShardingType::kGrid},
                                                            {{4, 2}, ShardingType::kTableRowWise},
                                                            {{4, 4}, ShardingType::kColumnWise},
                                                            {{2, 2}, ShardingType::kRowWise},
                                                            {{4, 2}, ShardingType::kTableColumnWise},
                                                            {{3, 3}, ShardingType::kRowWise},
                                                            {{1, 1}, ShardingType::kTableWise}}) {
    SCOPED_TRACE(ShardingTypeName(layout.type) + " over " + std::to_string(layout.ranks.world_size));
    const std::string to = next();
    const auto place = Planned(layout.type, layout.ranks);
    const int ranks = layout.ranks.world_size, local = layout.ranks.local_world_size;
    // Restored and saved again, the model and its optimizer state are the same bits.
    const Trained moved = Train(ranks, local, place, spec, 10, 10, false, 0.05, RestoreFrom(from, 10), SaveTo(to));
    ExpectSameBits(moved, start);
    // Trained on from there, it goes the way of the undisturbed run.
    const Trained on = Train(ranks, local, place, spec, 10, 20, false, 0.05, RestoreFrom(to, 10));
    for (size_t step = 10; step < 20; ++step) {
      EXPECT_NEAR(on.losses[step - 10], straight.losses[step], 1e-5 * straight.losses[step]) << "step " << step;
    }
    from = to;
  }
}

INSTANTIATE_TEST_SUITE_P(Optimizers, Resharding,
                         testing::Values(OptimizerType::kSgd, OptimizerType::kRowwiseAdagrad, OptimizerType::kAdam,
                                         OptimizerType::kPartialRowwiseLamb));

}  // namespace
}  // namespace anneal::embedding
