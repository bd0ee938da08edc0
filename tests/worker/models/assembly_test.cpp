// Feature groups and sequence groups put together, against plain operations of LibTorch and their gradients.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "worker/config/error.h"
#include "worker/models/group_assembly.h"
#include "worker/models/sequence_assembly.h"

namespace anneal::models {
namespace {

constexpr auto kPooled = Block::Source::kPooled, kDense = Block::Source::kDense, kEmbedded = Block::Source::kEmbedded;

struct Case {
  EmbeddingPlan plan;
  data::Batch batch;
  int64_t elements = 0;  ///< rows of the element matrix
};

void AddTable(Case& c, int64_t dim, bool sequence) {
  Table table;
  table.name = "t" + std::to_string(c.plan.tables.size());
  table.rows = 10;
  table.dim = dim;
  table.sequence = sequence;
  c.plan.tables.push_back(table);
}

/// Returns where the lookup's columns begin.
int64_t AddLookup(Case& c, int feature, int table, bool per_element) {
  const Table& t = c.plan.tables[table];
  int64_t& width = t.sequence ? c.plan.element_width : c.plan.pooled_width;
  c.plan.lookups.push_back({feature, table, width, t.dim, per_element});
  width += t.dim;
  return width - t.dim;
}

/// Sparse features: lengths of their rows. The ids do not matter here.
void SetLengths(Case& c, const std::vector<std::vector<int64_t>>& lengths) {
  c.batch.rows = static_cast<int64_t>(lengths.front().size());
  c.batch.sparse.offsets = {0};
  for (const auto& of_feature : lengths) {
    for (const int64_t length : of_feature) c.batch.sparse.offsets.push_back(c.batch.sparse.offsets.back() + length);
  }
}

void AddDense(Case& c, const std::vector<int64_t>& lengths, int64_t width) {
  data::DenseSequence sequence;
  sequence.offsets = {0};
  for (const int64_t length : lengths) sequence.offsets.push_back(sequence.offsets.back() + length);
  for (int64_t i = 0; i < sequence.offsets.back() * width; ++i)
    sequence.values.push_back(0.25f * static_cast<float>(i));
  c.batch.dense_sequences.push_back(std::move(sequence));
}

at::Tensor Leaf(int64_t rows, int64_t columns) {
  return at::sin(at::arange(rows * columns, at::kFloat) * 0.7 + 0.1).view({rows, columns}).requires_grad_(true);
}

/// A number that every element of every tensor changes by its own amount.
at::Tensor Weigh(const std::vector<at::Tensor>& tensors) {
  at::Tensor sum = at::zeros({});
  for (size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor weights =
        at::cos(at::arange(tensors[i].numel(), at::kFloat) * (0.3 + 0.1 * static_cast<double>(i)));
    sum = sum + (tensors[i].flatten() * weights).sum();
  }
  return sum;
}

/// The padded sequence of a group, row by row.
at::Tensor PlainSequence(const Case& c, const SequenceGroup& group, const at::Tensor& elements, int64_t longest) {
  std::vector<at::Tensor> parts;
  for (const SequencePart& part : group.sequence) {
    const int64_t* offsets = part.looked_up ? c.batch.sparse.offsets.data() + part.feature * c.batch.rows
                                            : c.batch.dense_sequences[part.feature].offsets.data();
    std::vector<at::Tensor> rows;
    for (int64_t b = 0; b < c.batch.rows; ++b) {
      const int64_t first = offsets[b] - offsets[0], length = std::min(offsets[b + 1] - offsets[b], longest);
      at::Tensor source;
      if (part.looked_up) {
        source = elements.narrow(1, part.column, part.width);
      } else {
        const auto& values = c.batch.dense_sequences[part.feature].values;
        source = at::tensor(at::ArrayRef<float>(values.data(), values.size())).view({-1, part.width});
      }
      rows.push_back(at::cat({source.narrow(0, first, length), at::zeros({longest - length, part.width})}, 0));
    }
    parts.push_back(at::stack(rows));
  }
  return at::cat(parts, 2);
}

void ExpectSequences(const Case& c) {
  const at::Tensor ours = Leaf(c.elements, c.plan.element_width), plain = Leaf(c.elements, c.plan.element_width);
  const at::Tensor dense = at::arange(c.batch.rows * c.plan.dense_width, at::kFloat).view({c.batch.rows, -1});
  const SequenceLayout layout = LayoutOf(c.plan, c.batch);
  std::vector<at::Tensor> made, wanted, by_index;
  const auto sequences = AssembleSequences(c.plan, layout, ours, dense);
  const at::Tensor other = Leaf(c.elements, c.plan.element_width);
  for (size_t g = 0; g < c.plan.sequence_groups.size(); ++g) {
    const SequenceGroup& group = c.plan.sequence_groups[g];
    made.push_back(sequences[g].sequence);
    wanted.push_back(PlainSequence(c, group, plain, sequences[g].mask.size(1)));
    by_index.push_back(PadByIndex(group, layout.groups[g], other));
    EXPECT_TRUE(at::equal(made.back(), wanted.back()));
    EXPECT_TRUE(at::equal(by_index.back(), wanted.back()));
    EXPECT_EQ(sequences[g].query.defined(), !group.query.empty());
    if (group.query.empty()) continue;
    std::vector<at::Tensor> query;
    for (const SequencePart& part : group.query) {
      query.push_back((part.looked_up ? plain.narrow(0, 0, c.batch.rows) : dense).narrow(1, part.column, part.width));
    }
    made.push_back(sequences[g].query);
    wanted.push_back(at::cat(query, 1));
    by_index.push_back(at::zeros_like(wanted.back()));
    EXPECT_TRUE(at::equal(made.back(), wanted.back()));
  }
  // What no element is part of has no gradient of its own.
  (Weigh(made) + ours.sum() * 0).backward();
  (Weigh(wanted) + plain.sum() * 0).backward();
  ASSERT_TRUE(ours.grad().defined());
  if (c.plan.element_width == 0) return;
  EXPECT_TRUE(at::allclose(ours.grad(), plain.grad(), 0, 1e-6));
  // The sequences alone: by_index has no query.
  const bool queries = std::any_of(c.plan.sequence_groups.begin(), c.plan.sequence_groups.end(),
                                   [](const SequenceGroup& group) { return !group.query.empty(); });
  if (queries) return;
  (Weigh(by_index) + other.sum() * 0).backward();
  EXPECT_TRUE(at::allclose(other.grad(), plain.grad(), 0, 1e-6));
}

TEST(SequenceAssembly, SequencesOfOtherLengthsBesideEachOtherAreCutToTheFirst) {
  Case c;
  AddTable(c, 4, true);
  AddTable(c, 3, true);
  SetLengths(c, {{2, 0, 3, 1}, {5, 1, 0, 1}});
  c.elements = 9;  // more than any lookup has
  const int64_t first = AddLookup(c, 0, 0, true), second = AddLookup(c, 1, 1, true);
  c.plan.sequence_groups = {{"g", 0, {}, {{true, 0, first, 4}, {true, 1, second, 3}}, 0, 7},
                            {"h", 0, {}, {{true, 1, second, 3}}, 0, 3}};
  ExpectSequences(c);
  c.plan.sequence_groups[1].most = 2;
  EXPECT_EQ(LayoutOf(c.plan, c.batch).groups[1].mask.size(1), 2);
  EXPECT_TRUE(at::equal(LayoutOf(c.plan, c.batch).groups[1].length, at::tensor({5, 1, 0, 1})));
  ExpectSequences(c);
}

TEST(SequenceAssembly, QueriesAndDenseSequences) {
  Case c;
  AddTable(c, 4, true);
  SetLengths(c, {{1, 1, 0, 1, 1}, {2, 0, 0, 1, 0}});
  c.elements = 5;  // rows of the batch, more than the three elements
  c.plan.dense_width = 3;
  const int64_t query = AddLookup(c, 0, 0, false), sequence = AddLookup(c, 1, 0, true);
  AddDense(c, {2, 0, 0, 1, 0}, 2);
  c.plan.sequence_groups = {
      {"g", 0, {{false, 0, 1, 2}, {true, 0, query, 4}}, {{true, 1, sequence, 4}, {false, 0, 0, 2}}, 6, 6}};
  ExpectSequences(c);
}

// Sampled items, the last rows of a batch, belong to item-side groups alone.
TEST(SequenceAssembly, SampledItemsHaveNoUsers) {
  Case c;
  AddTable(c, 2, true);
  const int64_t column = AddLookup(c, 0, 0, true), query = AddLookup(c, 1, 0, false);
  SetLengths(c, {{2, 1, 0, 0, 0}, {1, 1, 1, 1, 1}});
  c.batch.negatives = 3;
  for (const bool items : {false, true}) {
    SequenceGroup group{items ? "items" : "users"};
    group.sequence = {{true, 0, column, 2}};
    group.query = {{true, 1, query, 2}};
    group.sequence_width = group.query_width = 2;
    group.item_side = items;
    c.plan.sequence_groups.push_back(group);
  }
  const SequenceLayout layout = LayoutOf(c.plan, c.batch);
  const at::Tensor elements = Leaf(5, c.plan.element_width);
  const auto sequences = AssembleSequences(c.plan, layout, elements, at::zeros({5, 0}));
  for (size_t g = 0; g < 2; ++g) {
    const int64_t rows = g == 0 ? 2 : 5;
    EXPECT_EQ(layout.groups[g].rows, rows);
    EXPECT_EQ(sequences[g].mask.sizes(), (std::vector<int64_t>{rows, 2}));
    EXPECT_EQ(sequences[g].sequence.sizes(), (std::vector<int64_t>{rows, 2, 2}));
    EXPECT_TRUE(at::equal(sequences[g].query, elements.narrow(0, 0, rows).narrow(1, query, 2)));
  }
  // Gradients of queries go to those rows.
  const at::Tensor gradient = torch::autograd::grad({sequences[0].query.sum()}, {elements})[0];
  EXPECT_TRUE(at::equal(gradient.narrow(1, query, 2).sum(1), at::tensor({2.0f, 2.0f, 0.0f, 0.0f, 0.0f})));
}

TEST(SequenceAssembly, DenseSequencesAlone) {
  Case c;
  c.batch.rows = 3;
  AddDense(c, {0, 4, 1}, 1);
  c.plan.sequence_groups = {{"g", 0, {}, {{false, 0, 0, 1}}, 0, 1}};
  ExpectSequences(c);
}

TEST(SequenceAssembly, NoElements) {
  Case c;
  AddTable(c, 4, true);
  SetLengths(c, {{0, 0, 0}});
  c.plan.sequence_groups = {{"g", 0, {}, {{true, 0, AddLookup(c, 0, 0, true), 4}}, 0, 4}};
  ExpectSequences(c);
}

TEST(SequenceAssembly, AJaggedGroupIsNotPadded) {
  Case c;
  AddTable(c, 4, true);
  SetLengths(c, {{1, 1, 0, 1}, {2, 0, 3, 1}});
  c.elements = 7;  // one more than the sequence has
  c.plan.dense_width = 2;
  const int64_t query = AddLookup(c, 0, 0, false), sequence = AddLookup(c, 1, 0, true);
  AddDense(c, {2, 0, 3, 1}, 2);
  c.plan.sequence_groups = {{"g", 0, {{true, 0, query, 4}}, {{false, 0, 0, 2}, {true, 1, sequence, 4}}, 4, 6},
                            {"h", 0, {}, {{true, 1, sequence, 4}}, 0, 4}};
  for (SequenceGroup& group : c.plan.sequence_groups) group.jagged = true;
  const at::Tensor ours = Leaf(7, 8), plain = Leaf(7, 8), dense = at::zeros({4, 2});
  const SequenceLayout layout = LayoutOf(c.plan, c.batch);
  const auto made = AssembleSequences(c.plan, layout, ours, dense);
  const auto& numbers = c.batch.dense_sequences[0].values;
  const at::Tensor beside = at::tensor(at::ArrayRef<float>(numbers.data(), numbers.size())).view({6, 2});
  const at::Tensor found = plain.narrow(0, 0, 6).narrow(1, sequence, 4);
  const std::vector<at::Tensor> wanted = {at::cat({beside, found}, 1), found,
                                          plain.narrow(0, 0, 4).narrow(1, query, 4)};
  const std::vector<at::Tensor> got = {made[0].sequence, made[1].sequence, made[0].query};
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_TRUE(at::equal(got[i], wanted[i])) << i;
  EXPECT_TRUE(at::equal(made[0].length, at::tensor({2, 0, 3, 1})));
  EXPECT_FALSE(made[0].mask.defined());
  Weigh(got).backward();
  Weigh(wanted).backward();
  EXPECT_TRUE(at::allclose(ours.grad(), plain.grad(), 0, 1e-6));
  c.batch.dense_sequences.front().offsets = {0, 2, 3, 5, 6};
  try {
    LayoutOf(c.plan, c.batch);
    FAIL();
  } catch (const DataError& error) {
    EXPECT_STREQ(error.what(),
                 "sequence group 'g': its features have different numbers of elements in row 2 of a batch");
  }
}

TEST(SequenceAssembly, RefusesWhatTakesAllMemory) {
  Case c;
  AddTable(c, 64, true);
  SetLengths(c, {{40'000'000, 1}});
  c.plan.sequence_groups = {{"clicks", 0, {}, {{true, 0, AddLookup(c, 0, 0, true), 64}}, 0, 64}};
  try {
    LayoutOf(c.plan, c.batch);
    FAIL();
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("sequence group 'clicks': a row of the batch has 40000000 elements"),
              std::string::npos)
        << error.what();
  }
  c.plan.sequence_groups.front().most = 50;
  EXPECT_EQ(LayoutOf(c.plan, c.batch).groups.front().mask.size(1), 50);
}

TEST(GroupAssembly, TheGradientIsAutogradsToTheLastBit) {
  at::manual_seed(4);
  EmbeddingPlan plan;
  plan.tables.resize(4);
  plan.pooled_width = 10;
  plan.dense_width = 3;
  plan.embedded_width = 7;
  plan.lookups = {{0, 0, 0, 2}, {1, 1, 2, 3}, {2, 2, 5, 4}, {3, 3, 9, 1}};  // the last one is in no group
  auto add = [&plan](const char* name, std::vector<Block> blocks) {
    Group group;
    group.name = name;
    group.blocks = std::move(blocks);
    for (const auto& block : group.blocks) group.assembled_width += block.width;
    plan.groups.push_back(group);
  };
  add("first", {{kPooled, 0, 5}});
  add("mixed", {{kEmbedded, 4, 3}, {kDense, 1, 2}, {kPooled, 2, 7}});
  add("parted", {{kPooled, 5, 4}, {kEmbedded, 1, 4}, {kPooled, 0, 2}});
  const at::Tensor dense = at::randn({33, 3});
  const at::Tensor pooled = at::randn({33, 10}).set_requires_grad(true);
  const at::Tensor embedded = at::randn({33, 7}).set_requires_grad(true);
  const auto got = AssembleGroups(plan, pooled, dense, embedded);
  ASSERT_EQ(got.size(), 3u);
  std::vector<at::Tensor> want, seeds;
  for (const auto& group : plan.groups) {
    std::vector<at::Tensor> parts;
    for (const auto& block : group.blocks) {
      const at::Tensor& from = block.source == kPooled ? pooled : block.source == kDense ? dense : embedded;
      parts.push_back(from.narrow(1, block.column, block.width));
    }
    want.push_back(at::cat(parts, 1));
    seeds.push_back(at::randn_like(want.back()));
  }
  const auto evaluated = AssembleGroups(plan, pooled.detach(), dense, embedded.detach());
  for (size_t g = 0; g < got.size(); ++g) {
    EXPECT_TRUE(at::equal(got[g], want[g]));
    EXPECT_TRUE(at::equal(evaluated[g], want[g]));
  }
  const auto ours = torch::autograd::grad(got, {pooled, embedded}, seeds);
  const auto autograds = torch::autograd::grad(want, {pooled, embedded}, seeds, /*retain_graph=*/true);
  EXPECT_TRUE(at::equal(ours[0], autograds[0]));
  EXPECT_TRUE(at::equal(ours[1], autograds[1]));
  // A group that the loss does not use has no gradient; an expanded one has no memory of its own.
  const auto again = AssembleGroups(plan, pooled, dense, embedded);
  const at::Tensor one = torch::autograd::grad({again[0].sum()}, {pooled})[0];
  EXPECT_TRUE(at::equal(one.narrow(1, 0, 5), at::ones({33, 5})));
  EXPECT_TRUE(at::equal(one.narrow(1, 5, 5), at::zeros({33, 5})));
  // Sums over a group's columns: one number a row, alone and added to another group's.
  const at::Tensor w = at::randn({33, 1});
  auto of_sums = [&](const std::vector<at::Tensor>& groups) {
    return torch::autograd::grad(
        {((groups[0].sum(1, true) + groups[2].sum(1, true)) * w).sum() + groups[1].square().sum()}, {pooled})[0];
  };
  EXPECT_TRUE(at::equal(of_sums(AssembleGroups(plan, pooled, dense, embedded)), of_sums(want)));
}

/// Two groups that share a feature, beside sequence tables that are wider than all pooled columns.
TEST(GroupAssembly, LookupsOfSequencesAreNotPooled) {
  Case c;
  AddTable(c, 4, false);
  AddTable(c, 2, false);
  AddTable(c, 400, true);
  AddLookup(c, 3, 2, true);
  const int64_t user = AddLookup(c, 0, 0, false), city = AddLookup(c, 1, 1, false);
  AddLookup(c, 2, 2, false);
  Group one, both;
  one.assembled_width = 4;
  one.blocks = {{kPooled, user, 4}};
  both.assembled_width = 9;
  both.blocks = {{kPooled, user, 6}, {kDense, 0, 3}};
  ASSERT_EQ(city, user + 4);
  c.plan.groups = {one, both};
  c.plan.dense_width = 3;
  const at::Tensor ours = Leaf(5, 6), plain = Leaf(5, 6), dense = Leaf(5, 3).detach();
  const auto made = AssembleGroups(c.plan, ours, dense);
  const std::vector<at::Tensor> wanted = {plain.narrow(1, 0, 4), at::cat({plain, dense}, 1)};
  for (size_t g = 0; g < 2; ++g) EXPECT_TRUE(at::equal(made[g], wanted[g]));
  Weigh(made).backward();
  Weigh(wanted).backward();
  EXPECT_TRUE(at::allclose(ours.grad(), plain.grad(), 0, 1e-6));
}

}  // namespace
}  // namespace anneal::models
