#include <gmock/gmock.h>

#include "tests/worker/data/data_case.h"
#include "worker/config/error.h"

namespace anneal::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::UnorderedElementsAre;

class ParquetStream : public DataTest {
 protected:
  /// 100 numbered rows in three files with small row groups.
  std::string WriteHundred() const {
    WriteParquet("part-0.parquet", NumberedRows(0, 37), 10);
    WriteParquet("part-1.parquet", NumberedRows(37, 1), 10);
    WriteParquet("part-2.parquet", NumberedRows(38, 62), 25);
    return Path("part-*.parquet");
  }
};

const char* const kParquet = "dataset_type: ParquetDataset ";

TEST_F(ParquetStream, BatchesRunAcrossRowGroupsAndFiles) {
  const auto stream = OpenStream(NumberedConfig(std::string(kParquet) + "batch_size: 16 num_workers: 1"),
                                 {.input_path = WriteHundred()});
  EXPECT_EQ(stream->total_rows(), 100);
  EXPECT_EQ(stream->batch_size(), 16);
  EXPECT_EQ(stream->workers(), 1);
  for (int pass = 0; pass < 3; ++pass) {
    const auto batches = ReadIds(*stream);
    ASSERT_EQ(batches.size(), 7u);
    EXPECT_EQ(batches.back().size(), 4u);
    EXPECT_EQ(Joined(batches), Numbers(0, 100)) << "one worker: file order";
    EXPECT_EQ(stream->Next(), nullptr) << "the end stays the end";
    stream->Rewind();
  }
}

TEST_F(ParquetStream, LabelsAndPositionBelongToTheBatch) {
  const std::string path = WriteHundred();
  const auto stream =
      OpenStream(NumberedConfig(std::string(kParquet) + "batch_size: 60 num_workers: 1"), {.input_path = path});
  auto batch = stream->Next();
  ASSERT_EQ(batch->labels.size(), 1u);
  ASSERT_EQ(batch->labels[0].floats.size(), 60u);
  EXPECT_TRUE(batch->labels[0].ints.empty());
  EXPECT_EQ(batch->labels[0].floats[59], 1);
  EXPECT_THAT(batch->position, ElementsAre(Pair(path + ":0", 59)));
  batch = stream->Next();
  EXPECT_THAT(batch->position, ElementsAre(Pair(path + ":0", 99)));
}

TEST_F(ParquetStream, DropRemainderExceptInPredict) {
  const std::string config =
      NumberedConfig(std::string(kParquet) + "batch_size: 16 num_workers: 1 drop_remainder: true");
  const std::string path = WriteHundred();
  EXPECT_EQ(Joined(ReadIds(*OpenStream(config, {.input_path = path}))), Numbers(0, 96));
  EXPECT_EQ(Joined(ReadIds(*OpenStream(config, {.input_path = path, .mode = Mode::kPredict}))), Numbers(0, 100));
}

TEST_F(ParquetStream, BatchSizeByMode) {
  const std::string path = WriteHundred();
  const std::string config = NumberedConfig(std::string(kParquet) + "batch_size: 16 eval_batch_size: 50");
  EXPECT_EQ(OpenStream(config, {.input_path = path})->batch_size(), 16);
  EXPECT_EQ(OpenStream(config, {.input_path = path, .mode = Mode::kEval})->batch_size(), 50);
  EXPECT_EQ(OpenStream(config, {.input_path = path, .mode = Mode::kPredict})->batch_size(), 50);
  EXPECT_EQ(OpenStream(config, {.input_path = path, .batch_size = 7})->batch_size(), 7);
}

TEST_F(ParquetStream, RanksAndWorkersReadEveryRowOnce) {
  const std::string path = WriteHundred();
  const std::string config = NumberedConfig(std::string(kParquet) + "batch_size: 8 num_workers: 2");
  std::vector<int64_t> all;
  for (int rank = 0; rank < 2; ++rank) {
    const auto stream = OpenStream(config, {.input_path = path, .rank = rank, .world_size = 2});
    const auto ids = Joined(ReadIds(*stream));
    EXPECT_EQ(Sorted(ids), Numbers(rank * 50, rank * 50 + 50)) << "contiguous slices";
    all.insert(all.end(), ids.begin(), ids.end());
  }
  EXPECT_EQ(Sorted(all), Numbers(0, 100));
}

TEST_F(ParquetStream, WorkersTakeTurns) {
  const auto stream = OpenStream(NumberedConfig(std::string(kParquet) + "batch_size: 20 num_workers: 2"),
                                 {.input_path = WriteHundred()});
  const auto batches = ReadIds(*stream);
  ASSERT_EQ(batches.size(), 6u);
  std::vector<int64_t> first;
  for (const auto& batch : batches) first.push_back(batch[0]);
  EXPECT_THAT(first, ElementsAre(0, 50, 20, 70, 40, 90));
}

TEST_F(ParquetStream, TheLoneRowOfUnevenRanksIsDropped) {
  WriteParquet("nine.parquet", NumberedRows(0, 9));
  const std::string config = NumberedConfig(std::string(kParquet) + "batch_size: 4 num_workers: 1");
  const auto ids = [&](Mode mode) {
    return Joined(
        ReadIds(*OpenStream(config, {.input_path = Path("nine.parquet"), .mode = mode, .rank = 0, .world_size = 2})));
  };
  EXPECT_EQ(ids(Mode::kTrain), Numbers(0, 4));
  EXPECT_EQ(ids(Mode::kEval), Numbers(0, 4));
  EXPECT_EQ(ids(Mode::kPredict), Numbers(0, 5));
}

TEST_F(ParquetStream, MoreWorkersThanRows) {
  WriteParquet("two.parquet", NumberedRows(0, 2));
  const auto stream = OpenStream(NumberedConfig(std::string(kParquet) + "batch_size: 4 num_workers: 8"),
                                 {.input_path = Path("two.parquet")});
  EXPECT_EQ(Joined(ReadIds(*stream)), Numbers(0, 2));
}

TEST_F(ParquetStream, AnEmptyFileIsAnEmptyPass) {
  WriteParquet("none.parquet", NumberedRows(0, 0));
  const auto stream = OpenStream(NumberedConfig(kParquet), {.input_path = Path("none.parquet")});
  EXPECT_EQ(stream->Next(), nullptr);
}

TEST_F(ParquetStream, ShuffleMovesBatchesNotRows) {
  const std::string path = WriteHundred();
  const std::string config =
      NumberedConfig(std::string(kParquet) + "batch_size: 5 num_workers: 1 shuffle: true shuffle_buffer_size: 6");
  const auto read = [&](uint64_t seed, Mode mode = Mode::kTrain) {
    return ReadIds(*OpenStream(config, {.input_path = path, .mode = mode, .seed = seed}));
  };
  const auto batches = read(1);
  EXPECT_NE(Joined(batches), Numbers(0, 100));
  EXPECT_EQ(Sorted(Joined(batches)), Numbers(0, 100));
  for (const auto& batch : batches) EXPECT_EQ(batch, Numbers(batch[0], batch[0] + 5));
  EXPECT_EQ(batches, read(1)) << "the seed decides";
  EXPECT_NE(batches, read(2));
  EXPECT_EQ(Joined(read(1, Mode::kEval)), Numbers(0, 100));
  const auto stream = OpenStream(config, {.input_path = path, .seed = 1});
  EXPECT_EQ(ReadIds(*stream), batches);
  stream->Rewind();
  EXPECT_NE(ReadIds(*stream), batches) << "another order in the next pass";
}

TEST_F(ParquetStream, FilesMayOrderColumnsAsTheyLike) {
  WriteParquet("a.parquet", MakeRows({{"id", arrow::int64(), "[1]"}, {"y", arrow::float32(), "[0]"}}));
  WriteParquet(
      "b.parquet",
      MakeRows({{"y", arrow::float32(), "[1]"}, {"more", arrow::boolean(), "[true]"}, {"id", arrow::int64(), "[2]"}}));
  const auto stream = OpenStream(NumberedConfig(kParquet), {.input_path = Path("*.parquet"), .num_workers = 1});
  const auto batch = stream->Next();
  EXPECT_THAT(batch->sparse.values, ElementsAre(1, 2));
  EXPECT_THAT(batch->labels[0].floats, ElementsAre(0, 1));
}

TEST_F(ParquetStream, IntegerLabelsAndSampleWeights) {
  const std::string file = WriteParquet("a.parquet", MakeRows({{"id", arrow::int64(), "[1, 2]"},
                                                               {"y", arrow::int32(), "[0, 3]"},
                                                               {"z", arrow::float64(), "[0.5, 1]"},
                                                               {"w", arrow::float64(), "[0.25, 2]"}}));
  const auto stream =
      OpenStream(NumberedConfig(std::string(kParquet) + "label_fields: 'z' sample_weight_fields: 'w' num_workers: 1"),
                 {.input_path = file});
  const auto batch = stream->Next();
  EXPECT_THAT(batch->labels[0].ints, ElementsAre(0, 3));
  EXPECT_TRUE(batch->labels[0].floats.empty());
  EXPECT_THAT(batch->labels[1].floats, ElementsAre(0.5f, 1));
  ASSERT_EQ(batch->sample_weights.size(), 1u);
  EXPECT_THAT(batch->sample_weights[0], ElementsAre(0.25f, 2));
}

TEST_F(ParquetStream, PredictReadsNoLabelsAndPassesColumnsThrough) {
  WriteParquet("a.parquet",
               MakeRows({{"name", arrow::utf8(), R"(["a", "b", "c"])"}, {"id", arrow::int64(), "[1, 2, 3]"}}), 2);
  const auto first = [&](std::vector<std::string> reserved) {
    const auto stream =
        OpenStream(NumberedConfig(std::string(kParquet) + "num_workers: 1 batch_size: 3"),
                   {.input_path = Path("a.parquet"), .mode = Mode::kPredict, .reserved_columns = std::move(reserved)});
    return stream->Next();
  };
  EXPECT_TRUE(first({})->labels.empty());
  EXPECT_EQ(first({})->reserved, nullptr);
  const auto named = first({"name"});
  ASSERT_NE(named->reserved, nullptr);
  EXPECT_TRUE(named->reserved->Equals(*MakeRows({{"name", arrow::utf8(), R"(["a", "b", "c"])"}})));
  EXPECT_EQ(first({"ALL_COLUMNS"})->reserved->schema()->field_names(), (std::vector<std::string>{"name", "id"}));
  EXPECT_EQ(first({"ALL_EFFECTIVE_COLUMNS"})->reserved->schema()->field_names(), std::vector<std::string>{"id"});
}

TEST_F(ParquetStream, ReservedRowsAreThoseOfTheBatch) {
  const auto stream =
      OpenStream(NumberedConfig(std::string(kParquet) + "num_workers: 1 batch_size: 30"),
                 {.input_path = WriteHundred(), .mode = Mode::kPredict, .reserved_columns = {"y", "id"}});
  int64_t row = 0;
  while (const auto batch = stream->Next()) {
    ASSERT_EQ(batch->reserved->num_rows(), batch->rows);
    EXPECT_EQ(batch->reserved->schema()->field_names(), (std::vector<std::string>{"y", "id"}));
    EXPECT_TRUE(batch->reserved->column(1)->Equals(*NumberedRows(row, batch->rows)->column(0)));
    row += batch->rows;
  }
  EXPECT_EQ(row, 100);
}

TEST_F(ParquetStream, Faults) {
  WriteParquet("good.parquet", NumberedRows(0, 5));
  WriteParquet("other_type.parquet", MakeRows({{"id", arrow::utf8(), R"(["1"])"}, {"y", arrow::float32(), "[0]"}}));
  WriteParquet("no_label.parquet", MakeRows({{"id", arrow::int64(), "[1]"}, {"yy", arrow::float32(), "[0]"}}));
  WriteParquet("text_label.parquet", MakeRows({{"id", arrow::int64(), "[1]"}, {"y", arrow::utf8(), R"(["0"])"}}));
  WriteParquet("null_label.parquet",
               MakeRows({{"id", arrow::int64(), "[1, 2]"}, {"y", arrow::float32(), "[0, null]"}}));
  WriteParquet("bool.parquet", MakeRows({{"id", arrow::boolean(), "[true]"}, {"y", arrow::float32(), "[0]"}}));
  WriteText("broken.parquet", "this is no Parquet file at all");
  WriteText("empty.parquet", "");
  const struct {
    const char *file, *part;
  } kCases[] = {
      {"no_label.parquet", "no_label.parquet: column y is missing; did you mean "},
      {"text_label.parquet", "label column [y] with dtype string: only float or int is supported"},
      {"null_label.parquet", "null_label.parquet row 2, column y: is null"},
      {"bool.parquet", "bool.parquet: column [id] with dtype bool is not supported now."},
      {"broken.parquet", "broken.parquet: "},
      {"empty.parquet", "empty.parquet: "},
      {"{good,other_type}.parquet", "matches no file"},
  };
  for (const auto& one : kCases) {
    const std::string message =
        MessageOf([&] { ReadIds(*OpenStream(NumberedConfig(kParquet), {.input_path = Path(one.file)})); });
    EXPECT_THAT(message, HasSubstr(one.part)) << one.file;
  }
  EXPECT_THAT(MessageOf([&] {
                OpenStream(NumberedConfig(kParquet),
                           {.input_path = Path("good.parquet") + "," + Path("other_type.parquet")});
              }),
              HasSubstr("other_type.parquet: column id has dtype string, but int64 in "));
}

TEST_F(ParquetStream, BadValueNamesFileRowAndColumn) {
  WriteParquet("a.parquet", MakeRows({{"id", arrow::utf8(), R"(["1", "2"])"}, {"y", arrow::float32(), "[0, 0]"}}));
  WriteParquet("b.parquet",
               MakeRows({{"id", arrow::utf8(), R"(["3", "4", "five"])"}, {"y", arrow::float32(), "[0, 0, 0]"}}), 2);
  const auto stream = OpenStream(NumberedConfig(std::string(kParquet) + "batch_size: 4 num_workers: 1"),
                                 {.input_path = Path("*.parquet")});
  EXPECT_NE(stream->Next(), nullptr) << "the batch before the fault arrives";
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(MessageOf([&] { stream->Next(); }),
              Path("b.parquet") + " row 3, column id: \"five\" is not an integer (feature id)");
  }
  EXPECT_THROW(stream->Next(), DataError);
}

TEST_F(ParquetStream, ATruncatedFileIsAnErrorNotACrash) {
  WriteParquet("whole.parquet", NumberedRows(0, 2000), 100);
  std::ifstream file(Path("whole.parquet"), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  for (size_t i = 8; i < bytes.size() - 2000; i += 997) {  // damage inside the data, footer intact
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(~damaged[i]);
    WriteText("damaged.parquet", damaged);
    const std::string message = MessageOf([&] {
      ReadIds(*OpenStream(NumberedConfig(kParquet), {.input_path = Path("damaged.parquet"), .num_workers = 1}));
    });
    EXPECT_THAT(message, testing::AnyOf("", HasSubstr("damaged.parquet")));
  }
  WriteText("half.parquet", bytes.substr(0, bytes.size() / 2));
  EXPECT_THAT(MessageOf([&] { OpenStream(NumberedConfig(kParquet), {.input_path = Path("half.parquet")}); }),
              HasSubstr("half.parquet"));
}

TEST_F(ParquetStream, OptionsThatAreNotSupportedYet) {
  const std::string path = WriteHundred();
  const struct {
    const char *options, *part;
  } kCases[] = {{"dataset_type: OdpsDataset", "data_config.dataset_type OdpsDataset is not supported yet"},
                {"dataset_type: ParquetDataset batch_cost_size: 5", "data_config.batch_cost_size is not supported"},
                {"dataset_type: ParquetDataset sample_mask_prob: 0.5", "data_config.sample_mask_prob is not supported"},
                {"dataset_type: ParquetDataset batch_size: 0", "batch size 0"}};
  for (const auto& one : kCases) {
    EXPECT_THAT(MessageOf([&] { OpenStream(NumberedConfig(one.options), {.input_path = path}); }), HasSubstr(one.part));
    EXPECT_THROW(OpenStream(NumberedConfig(one.options), {.input_path = path}), ConfigError);
  }
}

}  // namespace
}  // namespace anneal::data
