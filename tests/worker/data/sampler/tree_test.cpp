// Trees of items: what is read and what is said of a fault, what is drawn, and the batches that come of it.
#include <gmock/gmock.h>

#include <chrono>
#include <cmath>
#include <map>
#include <set>

#include "tests/worker/data/data_case.h"
#include "worker/config/error.h"
#include "worker/data/sampler/tree_sampler.h"
#include "worker/data/sampler/tree_table.h"

namespace anneal::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// A binary tree of `levels` levels: node of code c has the id 100 + c, its children the codes 2c + 1 and 2c + 2.
/// Leaves weigh 1, 2, 3, ..., others 1.
class Trees : public DataTest {
 protected:
  static constexpr int kLevels = 4;

  ~Trees() override {
    TreeSampler::MakerOfStreams() = TreeSampler::Make;
    unsetenv("USE_HASH_NODE_ID");
  }

  static int LevelOf(int code) {
    int level = 0;
    while (code > 0) code = (code - 1) / 2, ++level;
    return level;
  }

  static std::string Row(int code) {
    const std::string id = std::to_string(100 + code);
    const int weight = LevelOf(code) == kLevels - 1 ? code - 6 : 1;
    return id + "\t" + std::to_string(weight) + "\t" + std::to_string(LevelOf(code)) + "," + id + "," +
           std::to_string(code % 3) + "\n";
  }

  /// Tables, as tree tools write them.
  void Write(std::string nodes = "", std::string ancestors = "", std::string children = "") const {
    std::string all_nodes = "id:int64\tweight:float\tfeature:string\n-1\t1\t-1,100,0\n";
    std::string all_ancestors = "src:int64\tdst:int64\tweight:float\n", all_children = all_ancestors + "-1\t100\t1\n";
    for (int code = 0; code < (1 << kLevels) - 1; ++code) {
      all_nodes += Row(code);
      if (code > 0) all_children += Edge((code - 1) / 2, code);
      if (LevelOf(code) < kLevels - 1) continue;
      for (int above = (code - 1) / 2; above > 0; above = (above - 1) / 2) all_ancestors += Edge(code, above);
    }
    WriteText("nodes.txt", nodes.empty() ? all_nodes : nodes);
    WriteText("ancestors.txt", ancestors.empty() ? all_ancestors : ancestors);
    WriteText("children.txt", children.empty() ? all_children : children);
  }

  static std::string Edge(int from, int to) {
    return std::to_string(100 + from) + "\t" + std::to_string(100 + to) + "\t1\n";
  }

  /// data_config's tdm_sampler.
  std::string Sampler(const std::string& more = "layer_num_sample: [0, 1, 2, 3]") const {
    return "tdm_sampler { item_input_path: '" + Path("nodes.txt") + "' edge_input_path: '" + Path("ancestors.txt") +
           "' predict_edge_input_path: '" + Path("children.txt") +
           "' item_id_field: 'i' attr_fields: ['kind'] attr_delimiter: ',' " + more + " } ";
  }

  std::shared_ptr<const TreeSampler> Make(const std::string& more = "layer_num_sample: [0, 1, 2, 3]") const {
    const auto config = ParseConfig("data_config { label_fields: 'y' " + Sampler(more) + "}").data_config();
    const auto input = arrow::schema({arrow::field("kind", arrow::int64()), arrow::field("i", arrow::int64())});
    return TreeSampler::Make(config, *input, [&](const std::string& text) { warnings_.push_back(text); });
  }

  std::string Fault(const std::string& more = "layer_num_sample: [0, 1, 2, 3]") const {
    return MessageOf([&] { Make(more); });
  }

  /// The code of a row of the node table, whose first is that of -1.
  static int CodeOf(int64_t row) { return static_cast<int>(row) - 1; }

  mutable std::vector<std::string> warnings_;
};

TEST_F(Trees, PositivesAndNegativesOfEveryRow) {
  Write();
  const auto sampler = Make();
  EXPECT_THAT(warnings_, IsEmpty());
  const std::vector<int64_t> items = {107, 114, 110};
  SamplingRequest request;
  request.items = items;
  std::map<int, int> first;  // of the leaves: the first negative of row 0
  constexpr int kBatches = 6000;
  for (request.number = 0; request.number < kBatches; ++request.number) {
    const TreeNodes nodes = sampler->Sample(request);
    ASSERT_EQ(nodes.ancestors, 6);
    ASSERT_EQ(nodes.nodes.size(), 6u + 3 * 6);
    ASSERT_EQ(nodes.rows.size(), nodes.nodes.size());
    std::vector<int> ancestors;
    for (int i = 0; i < 6; ++i) ancestors.push_back(CodeOf(nodes.nodes[i]));
    EXPECT_THAT(ancestors, ElementsAre(1, 3, 2, 6, 1, 4));
    EXPECT_THAT(std::vector(nodes.rows.begin(), nodes.rows.begin() + 6), ElementsAre(0, 0, 1, 1, 2, 2));
    for (int row = 0; row < 3; ++row) {
      const int own = static_cast<int>(items[row]) - 100;
      std::map<int, std::set<int>> drawn;
      for (int i = 6 + 6 * row; i < 12 + 6 * row; ++i) {
        EXPECT_EQ(nodes.rows[i], row);
        const int code = CodeOf(nodes.nodes[i]);
        EXPECT_TRUE(drawn[LevelOf(code)].insert(code).second) << "twice";
        EXPECT_NE(code, own);
        EXPECT_NE(code, (own - 1) / 2);
        EXPECT_NE(code, (own - 3) / 4);
      }
      for (int level = 1; level < kLevels; ++level) EXPECT_EQ(drawn[level].size(), static_cast<size_t>(level));
    }
    ++first[CodeOf(nodes.nodes[9])];
  }
  // Row 0's own leaf weighs 1, the others 2 to 8.
  for (int code = 8; code <= 14; ++code) {
    const double share = (code - 6) / 35.0;
    EXPECT_NEAR(first[code], kBatches * share, 4 * std::sqrt(kBatches * share * (1 - share))) << code;
  }
}

TEST_F(Trees, TheSameBatchDrawsTheSame) {
  Write();
  const auto sampler = Make();
  const std::vector<int64_t> items = {107, 114};
  const SamplingRequest request{.items = items, .seed = 5, .rank = 1, .worker = 2, .pass = 3, .number = 4};
  std::vector<std::vector<int64_t>> seen = {sampler->Sample(request).nodes};
  EXPECT_EQ(Make()->Sample(request).nodes, seen[0]);
  const auto change = [&](auto set) {
    SamplingRequest other = request;
    set(other);
    seen.push_back(sampler->Sample(other).nodes);
  };
  change([](auto& other) { other.seed = 6; });
  change([](auto& other) { other.rank = 0; });
  change([](auto& other) { other.worker = 0; });
  change([](auto& other) { other.pass = 0; });
  change([](auto& other) { other.number = 5; });
  EXPECT_EQ(std::set(seen.begin(), seen.end()).size(), seen.size());
}

TEST_F(Trees, SomeLevelsOfABatch) {
  Write();
  const std::vector<int64_t> items = {107, 114};
  SamplingRequest request;
  request.items = items;
  // Of two levels between root and leaves one: the upper one is chosen with these probabilities.
  const std::map<std::string, double> upper = {{"UNIFORM", 0.5}, {"ARITHMETIC", 1.0 / 3}, {"RECIPROCAL", 1.0 / 3}};
  for (const auto& [type, share] : upper) {
    const auto sampler = Make("layer_num_sample: [0, 1, 2, 3] remain_ratio: 0.5 probability_type: '" + type + "'");
    int chosen = 0;
    constexpr int kBatches = 2000;
    for (request.number = 0; request.number < kBatches; ++request.number) {
      const TreeNodes nodes = sampler->Sample(request);
      ASSERT_EQ(nodes.ancestors, 2);
      const int level = LevelOf(CodeOf(nodes.nodes[0]));
      EXPECT_EQ(LevelOf(CodeOf(nodes.nodes[1])), level) << "all rows have the same levels";
      ASSERT_EQ(nodes.nodes.size(), 2u + 2 * (level + 3));
      chosen += level == 1;
    }
    EXPECT_NEAR(chosen, kBatches * share, 4 * std::sqrt(kBatches * share * (1 - share))) << type;
  }
  const TreeNodes none = Make("layer_num_sample: [0, 1, 2, 3] remain_ratio: 0")->Sample(request);
  EXPECT_EQ(none.ancestors, 0);
  EXPECT_EQ(none.nodes.size(), 6u);
}

TEST_F(Trees, NearlyAllTheWeightIsTaken) {
  std::string nodes = "id:int64\tweight:float\tfeature:string\n-1\t1\t-1,100,0\n";
  for (int code = 0; code < 15; ++code) {
    const std::string id = std::to_string(100 + code);
    nodes += id + "\t" +
             (code == 7 || code == 1 ? "1e9"
              : code == 14           ? "0"
                                     : "1e-3") +
             "\t" + std::to_string(LevelOf(code)) + "," + id + ",0\n";
  }
  Write(nodes);
  const std::vector<int64_t> items = {107};
  SamplingRequest request;
  request.items = items;
  const auto sampler = Make("layer_num_sample: [0, 1, 3, 6]");
  for (request.number = 0; request.number < 20; ++request.number) {
    const TreeNodes drawn = sampler->Sample(request);
    std::vector<int64_t> codes;
    for (size_t i = 2; i < drawn.nodes.size(); ++i) codes.push_back(CodeOf(drawn.nodes[i]));
    EXPECT_THAT(Sorted(codes), ElementsAre(2, 4, 5, 6, 8, 9, 10, 11, 12, 13));
  }
}

TEST_F(Trees, TablesAreReadOnceForAllStreams) {
  Write();
  const auto one = Make(), two = Make();
  EXPECT_EQ(one->attributes().rows, two->attributes().rows);
  const auto more = Make("layer_num_sample: [0, 1, 2, 2]");
  EXPECT_NE(one->attributes().rows, more->attributes().rows);
  std::filesystem::last_write_time(Path("nodes.txt"),
                                   std::filesystem::last_write_time(Path("nodes.txt")) - std::chrono::hours(1));
  EXPECT_NE(one->attributes().rows, Make()->attributes().rows);
}

TEST_F(Trees, FaultsNameFileAndRow) {
  const std::string head = "id:int64\tweight:float\tfeature:string\n", edges = "src:int64\tdst:int64\tweight:float\n";
  Write();
  EXPECT_EQ(Fault(), "");
  EXPECT_THAT(Fault("layer_num_sample: [0, 1, 2]"),
              HasSubstr("nodes.txt row 10, column attrs: tree_level 3 is below the leaves: "
                        "data_config.tdm_sampler.layer_num_sample has levels 0 to 2"));
  EXPECT_THAT(Fault("layer_num_sample: [0, 1, 2, 3, 4]"),
              HasSubstr("nodes.txt: there is no node of tree_level 4 (data_config.tdm_sampler.layer_num_sample)"));
  EXPECT_THAT(Fault("layer_num_sample: [0, 1, 4, 3]"),
              HasSubstr("nodes.txt: of tree_level 2 only 4 nodes weigh more than 0: 4 cannot be drawn besides a row's "
                        "own"));
  Write(head + "100\t1\t0,100,0\n101\t1\t,101,0\n");
  EXPECT_THAT(Fault(), HasSubstr("nodes.txt row 3, column attrs: tree_level is missing"));
  Write(head + "100\t1\t-2,100,0\n");
  EXPECT_THAT(Fault(), HasSubstr("nodes.txt row 2, column attrs: tree_level -2 is negative"));
  Write(head + "100\t1\tx,100,0\n");
  EXPECT_THAT(Fault(), HasSubstr("nodes.txt row 2, column attrs: "));
  Write(head + "100\t1\t0,100\n");
  EXPECT_THAT(Fault(), HasSubstr("nodes.txt row 2, column attrs: "));
  Write("", edges + "107\t99\t1\n");
  EXPECT_THAT(Fault(), HasSubstr("ancestors.txt row 2, column ancestor id: \"99\" is no node of "));
  Write("", edges + "99\t101\t1\n");
  EXPECT_THAT(Fault(), HasSubstr("ancestors.txt row 2, column leaf id: \"99\" is no node of "));
  Write("", edges + "103\t101\t1\n");
  EXPECT_THAT(Fault(), HasSubstr("ancestors.txt row 2, column leaf id: \"103\" has tree_level 2, leaves have 3"));
  Write("", edges + "107\t100\t1\n");
  EXPECT_THAT(Fault(),
              HasSubstr("ancestors.txt row 2, column ancestor id: \"100\" has tree_level 0: it is not between"));
  Write("", edges + "107\t101\t1\n107\t101\t1\n107\t102\t1\n");
  EXPECT_THAT(Fault(),
              HasSubstr("ancestors.txt row 4, column ancestor id: \"102\" is another ancestor with tree_level 1"));
  Write("", edges + "107\t101\t1\n");
  EXPECT_THAT(Fault(), testing::ContainsRegex(
                           "ancestors.txt: has no edge from the leaf in .*nodes.txt row 10 to an ancestor with "
                           "tree_level 2"));
  Write("", "", edges + "101\t107\t1\n");
  EXPECT_THAT(Fault(), HasSubstr("children.txt row 2, column child id: \"107\" has tree_level 3, its parent 1"));
  Write("", "", edges + "101\t103\tx\n");
  EXPECT_THAT(Fault(), HasSubstr("children.txt row 2, column weight: "));
  std::filesystem::remove(Path("children.txt"));
  EXPECT_THAT(Fault(), HasSubstr("data_config.tdm_sampler.predict_edge_input_path: there is no file "));
}

/// A user's id, number and sequences; an item's id and kind.
std::string Config(const std::string& data_config) {
  return "data_config { label_fields: ['y', 'z'] sample_weight_fields: 'w' batch_size: 2 dataset_type: ParquetDataset "
         "num_workers: 1 " +
         data_config + R"( }
    feature_configs { id_feature { feature_name: 'u' expression: 'user:u' embedding_dim: 4 num_buckets: 100 } }
    feature_configs { raw_feature { feature_name: 'age' expression: 'user:age' } }
    feature_configs { sequence_id_feature { feature_name: 'clicks' expression: 'user:clicks' embedding_dim: 4
      num_buckets: 100 sequence_delim: ';' } }
    feature_configs { sequence_raw_feature { feature_name: 'stays' expression: 'user:stays' sequence_delim: ';' } }
    feature_configs { id_feature { feature_name: 'i' expression: 'item:i' embedding_dim: 4 num_buckets: 200 } }
    feature_configs { raw_feature { feature_name: 'kind' expression: 'item:kind' } })";
}

std::shared_ptr<arrow::RecordBatch> UsersWithItems(const std::string& labels = "[1, 0, 1]",
                                                   const std::string& items = "[107, 114, 110]") {
  return MakeRows({{"u", arrow::int64(), "[1, 2, 3]"},
                   {"age", arrow::float32(), "[20, 30, 40]"},
                   {"clicks", arrow::utf8(), R"(["10;11", "12", "13;14;15"])"},
                   {"stays", arrow::utf8(), R"(["0.5;0.25", "2", "3"])"},
                   {"i", arrow::int64(), items},
                   {"kind", arrow::int64(), "[7, 8, 9]"},
                   {"y", arrow::float32(), labels},
                   {"z", arrow::int64(), "[5, 6, 7]"},
                   {"w", arrow::float32(), "[0.5, 1, 2]"}});
}

TEST_F(Trees, ABatchByHand) {
  Write();
  // No inner level, one leaf: of each row the row itself and one other leaf.
  const std::string few = Sampler("layer_num_sample: [0, 1, 1, 1] remain_ratio: 0");
  const std::string path = WriteParquet("a.parquet", UsersWithItems());
  const auto stream = OpenStream(Config(few), {.input_path = path});
  const auto batch = stream->Next();
  ASSERT_EQ(batch->rows, 4);
  EXPECT_EQ(batch->read, 2);
  EXPECT_EQ(batch->negatives, 0);
  // Features u, clicks, i.
  EXPECT_THAT(batch->sparse.offsets, ElementsAre(0, 1, 2, 3, 4, 6, 7, 9, 10, 11, 12, 13, 14));
  const auto& values = batch->sparse.values;
  EXPECT_THAT(std::vector(values.begin(), values.end() - 2), ElementsAre(1, 2, 1, 2, 10, 11, 12, 10, 11, 12, 107, 114));
  const int64_t one = values[12] - 100, two = values[13] - 100;
  EXPECT_TRUE(one > 7 && one <= 14);
  EXPECT_TRUE(two >= 7 && two < 14);
  EXPECT_THAT(batch->dense, ElementsAre(20, 7, 30, 8, 20, one % 3, 30, two % 3));
  ASSERT_EQ(batch->dense_sequences.size(), 1u);
  EXPECT_THAT(batch->dense_sequences[0].values, ElementsAre(0.5f, 0.25f, 2, 0.5f, 0.25f, 2));
  EXPECT_THAT(batch->dense_sequences[0].offsets, ElementsAre(0, 2, 3, 5, 6));
  EXPECT_THAT(batch->labels[0].ints, ElementsAre(1, 0, 0, 0));
  EXPECT_THAT(batch->labels[0].floats, IsEmpty());
  EXPECT_THAT(batch->labels[1].ints, ElementsAre(5, 6, 0, 0));
  EXPECT_THAT(batch->sample_weights[0], ElementsAre(0.5f, 1, 0.5f, 1));
  EXPECT_EQ(batch->position, (std::map<std::string, int64_t>{{path + ":0", 1}}));
  // With all levels: ancestors, then negatives, grouped by row.
  const auto all = OpenStream(Config(Sampler()), {.input_path = path})->Next();
  ASSERT_EQ(all->rows, 2 + 4 + 12);
  EXPECT_THAT(std::vector(all->sparse.values.begin(), all->sparse.values.begin() + 18),
              ElementsAre(1, 2, 1, 1, 2, 2, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2));
  const int64_t* items = all->sparse.values.data() + all->sparse.offsets[2 * 18];
  EXPECT_THAT(std::vector(items, items + 6), ElementsAre(107, 114, 101, 103, 102, 106));
  EXPECT_THAT(all->labels[0].ints, ElementsAre(1, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  // Prediction knows no sampler.
  const auto plain = OpenStream(Config(Sampler()), {.input_path = path, .mode = Mode::kPredict})->Next();
  EXPECT_EQ(plain->rows, 2);
}

TEST_F(Trees, ContinuedStreamsDrawTheSame) {
  Write();
  const std::string path = WriteParquet("a.parquet", UsersWithItems());
  StreamOptions options{.input_path = path, .seed = 3};
  const auto whole = OpenStream(Config(Sampler()), options);
  std::vector<std::vector<int64_t>> seen;
  for (int pass = 0; pass < 2; ++pass) {
    while (auto batch = whole->Next()) seen.push_back(batch->sparse.values);
    whole->Rewind();
  }
  ASSERT_EQ(seen.size(), 4u);
  EXPECT_NE(seen[0], seen[2]) << "every pass draws anew";
  options.resume.order = whole->order();
  options.resume.pass = 1;
  options.resume.batches = 1;
  const auto rest = OpenStream(Config(Sampler()), options);
  EXPECT_EQ(rest->Next()->sparse.values, seen[3]);
  // Evaluations are all alike.
  options = {.input_path = path, .mode = Mode::kEval, .seed = 3};
  const auto evaluation = OpenStream(Config(Sampler()), options);
  const auto first = evaluation->Next();
  evaluation->Rewind();
  EXPECT_EQ(evaluation->Next()->sparse.values, first->sparse.values);
}

TEST_F(Trees, WrongData) {
  Write();
  const auto fault = [&](const std::shared_ptr<arrow::RecordBatch>& rows) {
    const std::string path = WriteParquet("a.parquet", rows);
    return MessageOf([&] {
      const auto stream = OpenStream(Config(Sampler()), {.input_path = path});
      while (stream->Next()) {
      }
    });
  };
  EXPECT_THAT(fault(UsersWithItems("[1, 0, 1]", "[107, 114, 103]")),
              HasSubstr("a.parquet row 3, column i: the item is no leaf of " + Path("nodes.txt")));
  EXPECT_THAT(fault(UsersWithItems("[1, 0, 1]", "[107, null, 110]")), HasSubstr("a.parquet row 2, column i: the item"));
  EXPECT_THAT(fault(UsersWithItems("[1, 0.5, 1]")), HasSubstr("a.parquet row 2, column y: 0.5"));
  EXPECT_THAT(fault(UsersWithItems("[1, 0, 1e30]")), HasSubstr("a.parquet row 3, column y: "));
}

}  // namespace
}  // namespace anneal::data
