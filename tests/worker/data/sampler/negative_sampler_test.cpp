// What samplers draw.
#include "worker/data/sampler/negative_sampler.h"

#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "tests/worker/data/data_case.h"
#include "worker/config/error.h"
#include "worker/data/sampler/alias_table.h"

namespace anneal::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Pairs = std::vector<std::pair<int32_t, int32_t>>;

class Sampling : public DataTest {
 protected:
  /// Items 100, 101, ... with these weights and the attribute a.
  void WriteItems(const std::vector<double>& weights) const {
    std::string text = "id:int64\tweight:float\tattrs:string\n";
    for (size_t i = 0; i < weights.size(); ++i) {
      text += std::to_string(100 + i) + "\t" + std::to_string(weights[i]) + "\t" + std::to_string(i) + "\n";
    }
    WriteText("items.txt", text);
  }
  void WriteUsers(const std::string& rows) const { WriteText("users.txt", "id:int64\tweight:float\n" + rows); }
  void WriteEdges(const std::string& name, const Pairs& edges) const {
    std::string text = "src:int64\tdst:int64\tweight:float\n";
    for (const auto& [user, item] : edges) text += std::to_string(user) + "\t" + std::to_string(item) + "\t1\n";
    WriteText(name, text);
  }

  std::shared_ptr<const NegativeSampler> Make(const std::string& kind, const std::string& rest, bool training = true) {
    const bool users = kind != "negative_sampler", positive = kind.ends_with("v2"), hard = kind.starts_with("hard");
    std::string text = "data_config { " + kind + " { item_id_field: 'i' attr_fields: 'a' " + rest;
    text += users ? " item_input_path: '" + Path("items.txt") + "' user_input_path: '" + Path("users.txt") +
                        "' user_id_field: 'u'"
                  : " input_path: '" + Path("items.txt") + "'";
    if (positive) text += " pos_edge_input_path: '" + Path("positive.txt") + "'";
    if (hard) text += " hard_neg_edge_input_path: '" + Path("hard.txt") + "'";
    const auto config = ParseConfig(text + " } }");
    return NegativeSampler::Make(config.data_config(), training, *arrow::schema({arrow::field("a", arrow::int64())}),
                                 [this](const std::string& warning) { warnings_.push_back(warning); });
  }

  /// How often each item came, of `batches` batches.
  static std::vector<int64_t> Counts(const NegativeSampler& sampler, SamplingRequest request, int64_t batches) {
    std::vector<int64_t> counts(sampler.attributes().count);
    for (request.number = 0; request.number < batches; ++request.number) {
      for (const int64_t item : sampler.Sample(request).items) ++counts[item];
    }
    return counts;
  }

  /// Chi-square of counts over what the weights let expect, where they do.
  static double ChiSquare(const std::vector<int64_t>& counts, const std::vector<double>& weights) {
    const double draws = std::accumulate(counts.begin(), counts.end(), 0.0);
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    double sum = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
      const double expected = draws * weights[i] / total;
      if (expected == 0) {
        EXPECT_EQ(counts[i], 0) << i;
      } else {
        sum += (counts[i] - expected) * (counts[i] - expected) / expected;
      }
    }
    return sum;
  }

  std::vector<std::string> warnings_;
};

TEST(Alias, SlotsGiveExactlyTheWeights) {
  // Draws at 2^16 equally spaced points: each number's share is off by at most one point a slot.
  for (const std::vector<float>& weights :
       {std::vector<float>{1}, {0, 3}, {1, 2, 3, 4, 5, 6, 7}, {0.1f, 0.1f, 0.1f}, {0, 0, 1e-20f, 0}, {1e30f, 1, 0}}) {
    const AliasTable table(weights);
    std::vector<double> counts(weights.size());
    constexpr int kPoints = 1 << 16;
    for (uint64_t i = 0; i < kPoints; ++i) ++counts[table.Draw((i << 48) + (uint64_t{1} << 47))];
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (size_t i = 0; i < weights.size(); ++i) {
      EXPECT_NEAR(counts[i], kPoints * weights[i] / total, static_cast<double>(weights.size()) + 1) << i;
      EXPECT_TRUE(weights[i] > 0 || counts[i] == 0) << i;
    }
  }
}

TEST_F(Sampling, DrawsFollowTheWeights) {
  std::vector<double> weights;
  for (int i = 0; i < 40; ++i) weights.push_back(i % 5 == 4 ? 0 : 1 + i % 7);
  WriteItems(weights);
  const auto sampler = Make("negative_sampler", "num_sample: 50");
  const std::vector<int64_t> ids = {100, 107, 5};  // 5 is no item
  weights[0] = weights[7] = 0;
  // 30 items that may come: 99.9 % of chi-square with 29 degrees of freedom lies below 58.3.
  EXPECT_LT(ChiSquare(Counts(*sampler, {.items = ids, .seed = 5}, 2000), weights), 58.3);
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(Sampling, NeverAPositiveWhileAnotherItemExists) {
  WriteItems({1, 1, 1000000, 1000000, 3});
  const auto sampler = Make("negative_sampler", "num_sample: 20");
  const std::vector<int64_t> heavy = {102, 103}, all = {100, 101, 102, 103, 104};
  // Nearly every try meets a positive; the rest still comes by its weights (2 degrees of freedom: 13.8).
  EXPECT_LT(ChiSquare(Counts(*sampler, {.items = heavy}, 500), {1, 1, 0, 0, 3}), 13.8);
  const Negatives negatives = sampler->Sample({.items = all});
  EXPECT_EQ(negatives.items.size(), 20u);
  EXPECT_THAT(negatives.items, testing::Each(testing::AnyOf(2, 3)));  // by weight, as if there were no positives
  // The only other item weighs nothing: it is not drawn either.
  WriteItems({0, 1});
  const std::vector<int64_t> one = {101};
  EXPECT_THAT(Make("negative_sampler", "num_sample: 5")->Sample({.items = one}).items, ElementsAre(1, 1, 1, 1, 1));
}

TEST_F(Sampling, ExactlyAsManyAsAskedFor) {
  WriteItems({1, 1, 1});
  WriteUsers("1\t1\n");
  WriteEdges("positive.txt", {});
  const std::vector<int64_t> ids = {100, 100, 101, 102, 102, 100, 100};
  for (const std::string kind : {"negative_sampler", "negative_sampler_v2"}) {
    const std::string counts = "num_sample: 17 num_eval_sample: 5";
    const auto count = [&](const std::string& rest, bool training) {
      return Make(kind, rest, training)->Sample({.items = ids, .users = ids}).items.size();
    };
    EXPECT_EQ(count(counts, true), 17u);
    EXPECT_EQ(count(counts, false), 5u);
    EXPECT_EQ(count("num_sample: 3", false), 3u);
    EXPECT_EQ(count("num_sample: 1", true), 1u);
  }
}

TEST_F(Sampling, RandomItemsWithoutAPositiveEdge) {
  WriteItems({0, 1, 2, 3, 4, 5});  // weights have no say
  WriteUsers("1\t1\n2\t1\n3\t1\n");
  WriteEdges("positive.txt",
             {{1, 105}, {1, 100}, {2, 102}, {1, 105}, {3, 100}, {3, 101}, {3, 102}, {3, 103}, {3, 104}, {3, 105}});
  const auto sampler = Make("negative_sampler_v2", "num_sample: 8");
  const std::vector<int64_t> items(4, 100), users = {1, 2, 9, 3};
  // Two negatives of each row, in the rows' order.
  std::vector<std::vector<int64_t>> counts(4, std::vector<int64_t>(6));
  SamplingRequest request{.items = items, .users = users, .seed = 3};
  for (request.number = 0; request.number < 3000; ++request.number) {
    const std::vector<int64_t> drawn = sampler->Sample(request).items;
    ASSERT_EQ(drawn.size(), 8u);
    for (size_t i = 0; i < 8; ++i) ++counts[i / 2][drawn[i]];
  }
  EXPECT_LT(ChiSquare(counts[0], {0, 1, 1, 1, 1, 0}), 16.3);
  EXPECT_LT(ChiSquare(counts[1], {1, 1, 0, 1, 1, 1}), 18.5);
  EXPECT_LT(ChiSquare(counts[2], {1, 1, 1, 1, 1, 1}), 20.6);
  EXPECT_LT(ChiSquare(counts[3], {1, 1, 1, 1, 1, 1}), 20.6) << "connected to all: as if to none";
}

TEST_F(Sampling, HardNegatives) {
  WriteItems({1, 1, 1, 1, 1});
  WriteUsers("1\t1\n2\t1\n");
  WriteEdges("positive.txt", {{1, 100}});
  WriteEdges("hard.txt", {{1, 104}, {2, 101}, {1, 102}, {1, 103}, {2, 777}});
  const std::vector<int64_t> items = {100, 100, 101, 100}, users = {2, 9, 1, 2};
  for (const std::string kind : {"hard_negative_sampler", "hard_negative_sampler_v2"}) {
    warnings_.clear();
    const Negatives negatives =
        Make(kind, "num_sample: 6 num_hard_sample: 2")->Sample({.items = items, .users = users});
    ASSERT_EQ(negatives.items.size(), 10u);
    EXPECT_EQ(std::vector<int64_t>(negatives.items.begin() + 6, negatives.items.end()),
              (std::vector<int64_t>{1, 4, 2, 1}));
    EXPECT_EQ(negatives.hard_indices, (Pairs{{0, 0}, {2, 0}, {2, 1}, {3, 0}}));
    if (kind == "hard_negative_sampler") {
      EXPECT_THAT(std::vector<int64_t>(negatives.items.begin(), negatives.items.begin() + 6),
                  testing::Each(testing::Gt(1)));
    }
    EXPECT_THAT(warnings_, ElementsAre(Path("hard.txt") + ": 1 edges to items that " + Path("items.txt") +
                                       " does not have, the first in row 6, are not used"));
  }
}

TEST_F(Sampling, TheSameNumbersGiveTheSameDraws) {
  WriteItems(std::vector<double>(1000, 1));
  const auto sampler = Make("negative_sampler", "num_sample: 10"), again = Make("negative_sampler", "num_sample: 10");
  const std::vector<int64_t> items = {100};
  const SamplingRequest first{.items = items};
  std::vector<SamplingRequest> requests(7, first);
  requests[1].seed = 1;
  requests[2].seed = uint64_t{1} << 32;
  requests[3].rank = 1;
  requests[4].worker = 1;
  requests[5].pass = 1;
  requests[6].number = 1;
  std::set<std::vector<int64_t>> draws;
  for (const SamplingRequest& request : requests) {
    EXPECT_EQ(sampler->Sample(request).items, again->Sample(request).items);
    draws.insert(sampler->Sample(request).items);
  }
  EXPECT_EQ(draws.size(), requests.size());
}

TEST_F(Sampling, WhatCannotBeMade) {
  EXPECT_EQ(MessageOf([&] { Make("negative_sampler", "num_sample: 1"); }),
            "data_config.negative_sampler.input_path: there is no file " + Path("items.txt"));
  EXPECT_THROW(Make("negative_sampler", "num_sample: 1"), ConfigError);
  WriteItems({0, 0});
  EXPECT_EQ(MessageOf([&] { Make("negative_sampler", "num_sample: 1"); }),
            Path("items.txt") + ", column weight: no item weighs more than 0");
  WriteItems({1});
  EXPECT_THAT(MessageOf([&] { Make("negative_sampler", ""); }),
              HasSubstr("data_config.negative_sampler.num_sample: must"));
  WriteUsers("x\t1\n");
  WriteEdges("positive.txt", {});
  EXPECT_EQ(MessageOf([&] { Make("negative_sampler_v2", "num_sample: 1"); }),
            Path("users.txt") + " row 2, column id: \"x\" is not an int64");
}

TEST_F(Sampling, AttributesThatNothingReads) {
  WriteText("items.txt", "id:int64\tweight:float\tattrs:string\n1\t1\t7:x\n");
  const auto sampler = Make("negative_sampler", "num_sample: 1 attr_fields: 'b'");
  EXPECT_THAT(
      warnings_,
      ElementsAre("data_config.negative_sampler.attr_fields: no feature reads a column b: the attribute is not used"));
  EXPECT_EQ(sampler->attributes().rows->num_columns(), 1);
}

}  // namespace
}  // namespace anneal::data
