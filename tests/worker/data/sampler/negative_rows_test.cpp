// Batches that end with sampled items.
#include "worker/data/sampler/negative_rows.h"

#include <gmock/gmock.h>

#include "tests/worker/data/data_case.h"
#include "worker/config/error.h"
#include "worker/data/sampler/table_file.h"
#include "worker/features/data_groups.h"

namespace anneal::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Pairs = std::vector<std::pair<int32_t, int32_t>>;

/// Draws items by a formula: number + worker, number + worker + 1, ... and a hard one for row 1.
class CountingSampler : public NegativeSampler {
 public:
  CountingSampler(int64_t count, RowSlice attributes) : count_(count), attributes_(std::move(attributes)) {}
  Negatives Sample(const SamplingRequest& request) const override {
    Negatives negatives;
    for (int64_t i = 0; i < count_; ++i) {
      negatives.items.push_back((request.number + request.worker + i) % attributes_.count);
    }
    if (request.items.size() > 1) {
      negatives.items.push_back(request.items[1] % attributes_.count);
      negatives.hard_indices = {{1, 0}};
    }
    return negatives;
  }
  const RowSlice& attributes() const override { return attributes_; }

 private:
  int64_t count_;
  RowSlice attributes_;
};

class NegativeBatches : public DataTest {
 protected:
  ~NegativeBatches() override {
    NegativeSampler::MakerOfStreams() = NegativeSampler::Make;
    unsetenv("USE_HASH_NODE_ID");
  }

  static void Inject(const std::shared_ptr<const NegativeSampler>& sampler) {
    NegativeSampler::MakerOfStreams() = [sampler](const auto&...) { return sampler; };
  }

  std::vector<int64_t> Bag(const Batch& batch, int64_t feature, int64_t row) const {
    const int64_t* offsets = batch.sparse.offsets.data() + feature * batch.rows + row;
    return {batch.sparse.values.begin() + offsets[0], batch.sparse.values.begin() + offsets[1]};
  }
};

/// An id, a number, a sequence of ids and one of numbers on the user's side and on the item's.
std::string TwoSides(const std::string& data_config) {
  return "data_config { label_fields: 'y' sample_weight_fields: 'w' " + data_config + R"( }
    feature_configs { id_feature { feature_name: 'u' expression: 'user:u' embedding_dim: 4 num_buckets: 100
      fg_encoded_default_value: '9' } }
    feature_configs { raw_feature { feature_name: 'age' expression: 'user:age' value_dim: 2
      fg_encoded_default_value: '5' } }
    feature_configs { sequence_id_feature { feature_name: 'clicks' expression: 'user:clicks' embedding_dim: 4
      num_buckets: 100 sequence_delim: ';' fg_encoded_default_value: '8' } }
    feature_configs { sequence_raw_feature { feature_name: 'stays' expression: 'user:stays' sequence_delim: ';'
      fg_encoded_default_value: '7' } }
    feature_configs { id_feature { feature_name: 'i' expression: 'item:i' embedding_dim: 4 num_buckets: 100 } }
    feature_configs { id_feature { feature_name: 'tags' expression: 'item:tags' embedding_dim: 4 num_buckets: 100
      fg_encoded_default_value: '6' } }
    feature_configs { raw_feature { feature_name: 'price' expression: 'item:price' fg_encoded_default_value: '-1' } })";
}

constexpr const char* kSampler =
    "negative_sampler { input_path: 'x' num_sample: 2 item_id_field: 'i' "
    "attr_fields: ['i', 'tags', 'price'] } ";

std::shared_ptr<arrow::RecordBatch> TwoSidedRows() {
  return MakeRows({{"u", arrow::int64(), "[1, 2, 3]"},
                   {"age", arrow::utf8(), R"(["20\u00031", "30\u00032", null])"},
                   {"clicks", arrow::utf8(), R"(["10;11", null, "12"])"},
                   {"stays", arrow::utf8(), R"(["0.5;0.25;1", "2", null])"},
                   {"i", arrow::int64(), "[50, 51, 52]"},
                   {"tags", arrow::utf8(), R"(["1\u00032", null, "3"])"},
                   {"price", arrow::float32(), "[1.5, null, 3.5]"},
                   {"y", arrow::float32(), "[1, 0, 1]"},
                   {"w", arrow::float32(), "[0.5, 1, 2]"}});
}

RowSlice TwoSidedItems() {
  RowSlice items;
  items.rows = MakeRows({{"i", arrow::int64(), "[60, 61, 62]"},
                         {"tags", arrow::utf8(), R"(["4\u00035\u00036", null, "7"])"},
                         {"price", arrow::float32(), "[10, 11, null]"}});
  items.count = 3;
  return items;
}

TEST_F(NegativeBatches, ValuesByHand) {
  Inject(std::make_shared<CountingSampler>(2, TwoSidedItems()));
  const std::string path = WriteParquet("a.parquet", TwoSidedRows());
  const auto stream = OpenStream(TwoSides("dataset_type: ParquetDataset num_workers: 1 " + std::string(kSampler)),
                                 {.input_path = path});
  const auto batch = stream->Next();
  // Rows 0..2 are the file's, then items 60, 61 and the hard one 60 + 51 mod 3 = 60.
  ASSERT_EQ(batch->rows, 6);
  EXPECT_EQ(batch->negatives, 3);
  EXPECT_EQ(batch->hard_negatives, (Pairs{{1, 0}}));
  // Features u, clicks, i, tags.
  EXPECT_THAT(batch->sparse.offsets, ElementsAre(0, 1, 2, 3, 3, 3, 3,   //
                                                 5, 6, 7, 7, 7, 7,      //
                                                 8, 9, 10, 11, 12, 13,  //
                                                 15, 16, 17, 20, 21, 24));
  EXPECT_THAT(batch->sparse.values, ElementsAre(1, 2, 3,                 //
                                                10, 11, 8, 12,           //
                                                50, 51, 52, 60, 61, 60,  //
                                                1, 2, 6, 3, 4, 5, 6, 6, 4, 5, 6));
  EXPECT_THAT(batch->sparse.weights, IsEmpty());
  EXPECT_THAT(batch->dense, ElementsAre(20, 1, 1.5f, 30, 2, -1, 5, 5, 3.5f, 0, 0, 10, 0, 0, 11, 0, 0, 10));
  ASSERT_EQ(batch->dense_sequences.size(), 1u);
  EXPECT_THAT(batch->dense_sequences[0].values, ElementsAre(0.5f, 0.25f, 1, 2, 7));
  EXPECT_THAT(batch->dense_sequences[0].offsets, ElementsAre(0, 3, 4, 5, 5, 5, 5));
  EXPECT_THAT(batch->labels[0].floats, ElementsAre(1, 0, 1));
  EXPECT_THAT(batch->sample_weights[0], ElementsAre(0.5f, 1, 2));
  EXPECT_EQ(batch->position, (std::map<std::string, int64_t>{{path + ":0", 2}}));
}

TEST_F(NegativeBatches, WeightsOfIds) {
  RowSlice items;
  items.rows = MakeRows({{"i", arrow::int64(), "[60]"}, {"tags", arrow::utf8(), R"(["4:0.5\u00035:2"])"}});
  items.count = 1;
  Inject(std::make_shared<CountingSampler>(1, items));
  const std::string path = WriteParquet("a.parquet", MakeRows({{"u", arrow::int64(), "[1]"},
                                                               {"i", arrow::int64(), "[50]"},
                                                               {"tags", arrow::utf8(), R"(["1:3"])"},
                                                               {"y", arrow::float32(), "[1]"}}));
  const auto stream =
      OpenStream("data_config { label_fields: 'y' dataset_type: ParquetDataset " + std::string(kSampler) + R"( }
        feature_configs { id_feature { feature_name: 'i' embedding_dim: 4 num_buckets: 100 } }
        feature_configs { id_feature { feature_name: 'u' embedding_dim: 4 num_buckets: 100 } }
        feature_configs { id_feature { feature_name: 'tags' embedding_dim: 4 num_buckets: 100 weighted: true } })",
                 {.input_path = path, .num_workers = 1});
  const auto batch = stream->Next();
  EXPECT_THAT(batch->sparse.values, ElementsAre(50, 60, 1, 1, 4, 5));
  EXPECT_THAT(batch->sparse.weights, ElementsAre(1, 1, 1, 3, 0.5f, 2));
  EXPECT_THAT(batch->sparse.offsets, ElementsAre(0, 1, 2, 3, 3, 4, 6));
}

TEST_F(NegativeBatches, TheItemSideOfAFeatureSet) {
  const auto config = ParseConfig(TwoSides(kSampler));
  const auto set = features::FeatureSet::FromConfig(config);
  std::vector<std::string> names;
  for (const features::Feature& feature : set.all()) {
    if (features::IsSampled(feature, {"price", "i", "tags", "other"})) names.push_back(feature.name);
    EXPECT_FALSE(features::IsSampled(feature, {}));
  }
  EXPECT_THAT(names, ElementsAre("i", "tags", "price"));
  EXPECT_FALSE(features::IsSampled(set.all()[0], {"i"}));
}

// From files of every kind to batches, with the real sampler: CSV and Parquet give the same.
TEST_F(NegativeBatches, CsvAndParquet) {
  WriteText("items.txt", "id:int64\tweight:float\tattrs:string\n50\t1\t1:7\n51\t0\t2:\n52\t0\t3:9\n53\t0\t4:8\n");
  WriteText("users.txt", "id:int64\tweight:float\n1\t1\n");
  WriteText("hard.txt", "u:int64\ti:int64\tw:float\n2\t52\t1\n2\t53\t1\n1\t51\t1\n");
  const std::string csv = WriteText("a.csv", "user,item,i,tags,y\n1,99,10,1,1\n2,99,11,,0\n3,99,12,3,1\n2,,13,3,1\n");
  const std::string parquet = WriteParquet("a.parquet", MakeRows({{"i", arrow::int64(), "[10, 11, 12, 13]"},
                                                                  {"tags", arrow::int64(), "[1, null, 3, 3]"},
                                                                  {"y", arrow::int64(), "[1, 0, 1, 1]"},
                                                                  {"user", arrow::utf8(), R"(["1", "2", "3", "2"])"},
                                                                  {"item", arrow::int32(), "[99, 99, 99, null]"}}));
  // The ids are columns that no feature reads.
  const auto config = [&](const std::string& type) {
    return "data_config { batch_size: 3 label_fields: 'y' dataset_type: " + type +
           " with_header: true hard_negative_sampler { item_input_path: '" + Path("items.txt") +
           "' user_input_path: '" + Path("users.txt") + "' hard_neg_edge_input_path: '" + Path("hard.txt") +
           R"(' num_sample: 3 num_eval_sample: 1 num_hard_sample: 5 item_id_field: 'item' user_id_field: 'user'
               attr_fields: ['i', 'tags'] } }
           feature_configs { id_feature { feature_name: 'i' embedding_dim: 4 num_buckets: 100 } }
           feature_configs { id_feature { feature_name: 'tags' embedding_dim: 4 num_buckets: 100 } })";
  };
  for (const std::string type : {"CsvDataset", "ParquetDataset"}) {
    for (const Mode mode : {Mode::kTrain, Mode::kEval}) {
      const auto stream =
          OpenStream(config(type), {.input_path = type[0] == 'C' ? csv : parquet, .mode = mode, .num_workers = 1});
      const int64_t shared = mode == Mode::kTrain ? 3 : 1;
      auto batch = stream->Next();
      ASSERT_EQ(batch->rows, 3 + shared + 3);
      EXPECT_EQ(batch->negatives, shared + 3);
      EXPECT_EQ(batch->hard_negatives, (Pairs{{0, 0}, {1, 0}, {1, 1}}));
      EXPECT_EQ(batch->labels[0].ints.size(), 3u);
      for (int64_t i = 0; i < shared; ++i) {  // item 50 alone weighs something
        EXPECT_THAT(Bag(*batch, 0, 3 + i), ElementsAre(1));
        EXPECT_THAT(Bag(*batch, 1, 3 + i), ElementsAre(7));
      }
      EXPECT_THAT(Bag(*batch, 0, 2), ElementsAre(12));
      EXPECT_THAT(Bag(*batch, 0, 3 + shared), ElementsAre(2));
      EXPECT_THAT(Bag(*batch, 1, 3 + shared), IsEmpty());
      EXPECT_THAT(Bag(*batch, 0, 4 + shared), ElementsAre(3));
      EXPECT_THAT(Bag(*batch, 1, 5 + shared), ElementsAre(8));
      stream->Recycle(std::move(batch));
      batch = stream->Next();  // the last row
      ASSERT_EQ(batch->rows, 1 + shared + 2);
      EXPECT_EQ(batch->hard_negatives, (Pairs{{0, 0}, {0, 1}}));
      EXPECT_EQ(stream->Next(), nullptr);
    }
    // Prediction needs no sampler, nor its columns and tables.
    std::filesystem::rename(Path("hard.txt"), Path("away.txt"));
    const auto stream = OpenStream(
        config(type), {.input_path = type[0] == 'C' ? csv : parquet, .mode = Mode::kPredict, .num_workers = 1});
    EXPECT_EQ(stream->Next()->negatives, 0);
    std::filesystem::rename(Path("away.txt"), Path("hard.txt"));
  }
}

// Attributes have the types of the columns, whatever these are.
TEST_F(NegativeBatches, ListsMapsAndNumbers) {
  WriteText("items.txt",
            "id:int64\tweight:float\tattrs:string\n9\t1\t4\x1d"
            "5|7:0.5\x1d"
            "8:2|0.25|3\n");
  const auto map = arrow::map(arrow::int64(), arrow::float32());
  const std::string path = WriteParquet("a.parquet", MakeRows({{"id", arrow::int64(), "[1]"},
                                                               {"list", arrow::list(arrow::int64()), "[[1, 2, 3]]"},
                                                               {"map", map, "[[[6, 1.5]]]"},
                                                               {"number", arrow::float64(), "[0.75]"},
                                                               {"small", arrow::int32(), "[2]"},
                                                               {"y", arrow::float32(), "[1]"}}));
  const auto stream =
      OpenStream("data_config { label_fields: 'y' dataset_type: ParquetDataset negative_sampler { input_path: '" +
                     Path("items.txt") + R"(' num_sample: 2 item_id_field: 'id' attr_delimiter: '|'
                                 attr_fields: ['list', 'map', 'number', 'small'] } }
        feature_configs { id_feature { feature_name: 'small' embedding_dim: 4 num_buckets: 100 } }
        feature_configs { id_feature { feature_name: 'map' embedding_dim: 4 num_buckets: 100 weighted: true } }
        feature_configs { sequence_id_feature { feature_name: 'list' embedding_dim: 4 num_buckets: 100 } }
        feature_configs { raw_feature { feature_name: 'number' } })",
                 {.input_path = path, .num_workers = 1});
  const auto batch = stream->Next();
  EXPECT_THAT(batch->sparse.values, ElementsAre(2, 3, 3, 6, 7, 8, 7, 8, 1, 2, 3, 4, 5, 4, 5));
  EXPECT_THAT(batch->sparse.weights, ElementsAre(1, 1, 1, 1.5f, 0.5f, 2, 0.5f, 2, 1, 1, 1, 1, 1, 1, 1));
  EXPECT_THAT(batch->sparse.offsets, ElementsAre(0, 1, 2, 3, 4, 6, 8, 11, 13, 15));
  EXPECT_THAT(batch->dense, ElementsAre(0.75f, 0.25f, 0.25f));
}

/// Files of 40 rows and 500 items; every batch's negatives.
class ResumedNegatives : public NegativeBatches {
 protected:
  ResumedNegatives() {
    std::string items = "id:int64\tweight:float\tattrs:string\n";
    for (int i = 0; i < 500; ++i) items += std::to_string(i) + "\t1\t" + std::to_string(i) + "\n";
    WriteText("items.txt", items);
    WriteParquet("a.parquet", NumberedRows(0, 40));
    for (int part = 0; part < 2; ++part) {
      std::string rows = "id,y\n";
      for (int i = 20 * part; i < 20 * part + 20; ++i) rows += std::to_string(i) + ",0\n";
      WriteText("part-" + std::to_string(part) + ".csv", rows);
    }
  }

  std::unique_ptr<BatchStream> Open(const std::string& options, StreamOptions at) const {
    const bool csv = options.find("Csv") != std::string::npos;
    at.input_path = Path(csv ? "part-*.csv" : "a.parquet");
    return OpenStream(
        NumberedConfig("batch_size: 4 with_header: true " + options + " negative_sampler { input_path: '" +
                       Path("items.txt") + "' num_sample: 3 item_id_field: 'id' attr_fields: 'id' }"),
        at);
  }

  static std::vector<std::vector<int64_t>> Read(BatchStream& stream) {
    std::vector<std::vector<int64_t>> batches;
    while (auto batch = stream.Next()) {
      EXPECT_EQ(batch->negatives, 3);
      batches.emplace_back(batch->sparse.values.begin(), batch->sparse.values.end());
      stream.Recycle(std::move(batch));
    }
    return batches;
  }
};

TEST_F(ResumedNegatives, AreTheSameAgain) {
  for (const std::string options :
       {"dataset_type: ParquetDataset num_workers: 1", "dataset_type: ParquetDataset num_workers: 3",
        "dataset_type: ParquetDataset num_workers: 2 shuffle: true shuffle_buffer_size: 3",
        "dataset_type: CsvDataset num_workers: 2 shuffle: true shuffle_buffer_size: 2"}) {
    const auto whole = Open(options, {.seed = 9});
    std::vector<std::vector<std::vector<int64_t>>> passes = {Read(*whole)};
    whole->Rewind();
    passes.push_back(Read(*whole));
    EXPECT_NE(passes[0], passes[1]);
    for (size_t pass = 0; pass < 2; ++pass) {
      for (size_t batches = 0; batches < passes[pass].size(); batches += 3) {
        const auto rest = Open(
            options,
            {.seed = 9, .resume = {static_cast<int64_t>(pass), static_cast<int64_t>(batches), whole->order(), {}}});
        EXPECT_EQ(Read(*rest), std::vector(passes[pass].begin() + static_cast<int64_t>(batches), passes[pass].end()))
            << options << " after " << batches;
      }
    }
  }
}

TEST_F(ResumedNegatives, DifferByRankAndThreadAndNotByEvaluation) {
  const std::string options = "dataset_type: ParquetDataset num_workers: 2";
  const auto negatives = [](const std::vector<int64_t>& batch) { return std::vector(batch.end() - 3, batch.end()); };
  const auto first = Open(options, {.rank = 0, .world_size = 2}), second = Open(options, {.rank = 1, .world_size = 2});
  const auto batches = Read(*first), others = Read(*second);
  EXPECT_NE(negatives(batches[0]), negatives(batches[1]));  // the first ones of two threads
  EXPECT_NE(negatives(batches[0]), negatives(others[0]));
  const auto evaluation = Open(options, {.mode = Mode::kEval});
  const auto once = Read(*evaluation);
  evaluation->Rewind();
  EXPECT_EQ(Read(*evaluation), once);
}

TEST_F(NegativeBatches, FaultsNameTheTablesRow) {
  const std::string path =
      WriteParquet("a.parquet", MakeRows({{"i", arrow::utf8(), R"(["1"])"}, {"y", arrow::float32(), "[1]"}}));
  WriteText("items.txt", "id:int64\tweight:float\tattrs:string\n5\t1\t5\n6\t1\t6x\n");
  const auto config = [&](const std::string& item_id) {
    return "data_config { label_fields: 'y' dataset_type: ParquetDataset negative_sampler { input_path: '" +
           Path("items.txt") + "' num_sample: 20 attr_fields: 'i' item_id_field: '" + item_id +
           "' } } feature_configs { id_feature { feature_name: 'i' embedding_dim: 4 num_buckets: 100 } }";
  };
  EXPECT_THAT(MessageOf([&] { OpenStream(config("i"), {.input_path = path, .num_workers = 1})->Next(); }),
              HasSubstr(Path("items.txt") + " row 3, column i: \"6x\""));
  EXPECT_THAT(MessageOf([&] { OpenStream(config("y"), {.input_path = path, .num_workers = 1}); }),
              HasSubstr("column y has dtype float: ids of a sampler are int or string"));
  EXPECT_THAT(MessageOf([&] { OpenStream(config("z"), {.input_path = path, .num_workers = 1}); }),
              HasSubstr("a.parquet: column z is missing"));
}

TEST_F(NegativeBatches, Ids) {
  const auto rows = MakeRows({{"numbers", arrow::int32(), "[1, null, -3]"},
                              {"texts", arrow::utf8(), R"(["7", null, "8"])"},
                              {"several", arrow::utf8(), R"(["7;9", "-1", null])"},
                              {"bad", arrow::utf8(), R"(["7", "", "x"])"}});
  RowSlice slice;
  slice.rows = rows;
  slice.begin = 1;
  slice.count = 2;
  const auto ids = [&](const std::string& name, const std::string& delimiter) {
    return IdColumn(name, delimiter, *rows->schema()).Read({&slice, 1});
  };
  EXPECT_THAT(ids("numbers", ""), ElementsAre(0, -3));
  EXPECT_THAT(ids("texts", ""), ElementsAre(0, 8));
  EXPECT_THAT(MessageOf([&] { ids("bad", ""); }), HasSubstr("row 1, column bad: \"\" is not an int64"));
  slice.begin = 0;
  slice.count = 3;
  EXPECT_THAT(ids("several", ";"), ElementsAre(7, 9, -1, 0));
  setenv("USE_HASH_NODE_ID", "1", 1);
  int64_t seven = 0, one = 0, none = 0;
  ReadNodeId("7", true, &seven);
  ReadNodeId("1", true, &one);
  ReadNodeId("", true, &none);
  EXPECT_EQ(ids("several", ";")[0], seven);
  EXPECT_EQ(ids("numbers", "")[0], one);
  EXPECT_EQ(ids("numbers", "")[1], none);
  EXPECT_EQ(ids("texts", "")[1], none);
}

}  // namespace
}  // namespace anneal::data
