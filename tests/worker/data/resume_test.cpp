// A stream continued from a checkpoint's reading position (parity/data.md 2.2).
#include <gmock/gmock.h>

#include <random>

#include "tests/worker/data/data_case.h"

namespace anneal::data {
namespace {

using Resume = DataTest;

void Merge(const std::map<std::string, int64_t>& from, std::map<std::string, int64_t>* into) {
  for (const auto& [source, row] : from) {
    int64_t& last = into->try_emplace(source, row).first->second;
    last = std::max(last, row);
  }
}

TEST_F(Resume, EveryRowExactlyOnceWhateverTheWorkers) {
  WriteParquet("a.parquet", NumberedRows(0, 301), 50);
  WriteParquet("b.parquet", NumberedRows(301, 199), 33);
  const std::string path = Path("*.parquet");
  // Jobs of (ranks, workers) that read a few batches each and are stopped; the last one reads to the end.
  const std::vector<std::vector<std::pair<int, int>>> kHistories = {
      {{1, 1}, {1, 1}}, {{2, 2}, {1, 3}}, {{1, 4}, {2, 1}, {3, 2}, {1, 1}}, {{2, 3}, {2, 3}, {2, 3}, {2, 3}}};
  std::mt19937 random(7);
  for (const auto& history : kHistories) {
    std::map<std::string, int64_t> position;
    std::vector<int64_t> seen;
    for (size_t job = 0; job < history.size(); ++job) {
      const bool last = job + 1 == history.size();
      std::map<std::string, int64_t> reached = position;
      for (int rank = 0; rank < history[job].first; ++rank) {
        const auto stream = OpenStream(NumberedConfig("dataset_type: ParquetDataset batch_size: 7"),
                                       {.input_path = path,
                                        .mode = Mode::kPredict,  // drops no lone row (ShareOfRows)
                                        .rank = rank,
                                        .world_size = history[job].first,
                                        .num_workers = history[job].second,
                                        .resume = {.rows = position}});
        for (unsigned batches = last ? 1000 : 1 + random() % 9; batches > 0; --batches) {
          const auto batch = stream->Next();
          if (batch == nullptr) break;
          seen.insert(seen.end(), batch->sparse.values.begin(), batch->sparse.values.end());
          Merge(batch->position, &reached);
        }
      }
      position = reached;
    }
    EXPECT_EQ(Sorted(seen), Numbers(0, 500));
  }
}

TEST_F(Resume, RangesLeftOverAreSharedOutAgain) {
  WriteParquet("a.parquet", NumberedRows(0, 100), 9);
  const std::string path = Path("a.parquet");
  const std::map<std::string, int64_t> position = {{path + ":0", 9}, {path + ":40", 59}, {path + ":80", 89}};
  std::vector<int64_t> seen;
  for (int rank = 0; rank < 2; ++rank) {
    const auto stream =
        OpenStream(NumberedConfig("dataset_type: ParquetDataset batch_size: 7"), {.input_path = path,
                                                                                  .mode = Mode::kPredict,
                                                                                  .rank = rank,
                                                                                  .world_size = 2,
                                                                                  .num_workers = 2,
                                                                                  .resume = {.rows = position}});
    const auto ids = Joined(ReadIds(*stream));
    seen.insert(seen.end(), ids.begin(), ids.end());
  }
  std::vector<int64_t> expected = Numbers(10, 40);
  for (const auto& part : {Numbers(60, 80), Numbers(90, 100)})
    expected.insert(expected.end(), part.begin(), part.end());
  EXPECT_EQ(Sorted(seen), expected);
}

// Where a run was stopped after any number of batches, the one that goes on gets the same batches as if it had not
// been, in this pass and the next, whatever shuffling, several workers and ranks of unequal length do.
TEST_F(Resume, BatchesFollowAsTheyWouldHave) {
  WriteParquet("a.parquet", NumberedRows(0, 103), 9);
  std::vector<std::string> parts;
  for (int i = 0; i < 5; ++i) {
    std::string text = "id,y\n";
    for (int row = 0; row < 10 + i; ++row) text += std::to_string(20 * i + row) + ",0\n";
    WriteText("part-" + std::to_string(i) + ".csv", text);
  }
  for (const std::string config :
       {"dataset_type: ParquetDataset num_workers: 1", "dataset_type: ParquetDataset num_workers: 3",
        "dataset_type: ParquetDataset num_workers: 1 shuffle: true shuffle_buffer_size: 4",
        "dataset_type: ParquetDataset num_workers: 3 shuffle: true shuffle_buffer_size: 3",
        "dataset_type: ParquetDataset num_workers: 2 shuffle: true shuffle_buffer_size: 50 drop_remainder: true",
        "dataset_type: CsvDataset with_header: true num_workers: 2 shuffle: true shuffle_buffer_size: 3"}) {
    const bool csv = config.find("Csv") != std::string::npos;
    std::map<std::string, int64_t> rows;  // what a checkpoint of Parquet notes besides
    if (!csv) rows = {{"x:0", 1}};
    StreamOptions options{.input_path = Path(csv ? "part-*.csv" : "a.parquet")};
    for (const int world : {1, 2}) {
      options.world_size = world;
      for (options.rank = 0; options.rank < world; ++options.rank) {
        const auto open = [&](const StreamPosition& at) {
          StreamOptions from = options;
          from.resume = at;
          return OpenStream(NumberedConfig("batch_size: 7 " + config), from);
        };
        const auto whole = open({});
        std::vector<std::vector<std::vector<int64_t>>> passes;
        for (int pass = 0; pass < 3; ++pass) {
          if (pass > 0) whole->Rewind();
          passes.push_back(ReadIds(*whole));
        }
        for (size_t pass = 0; pass < 2; ++pass) {
          for (size_t batches = 0; batches <= passes[pass].size() + 1; ++batches) {  // another rank may have more
            const auto rest = open({static_cast<int64_t>(pass), static_cast<int64_t>(batches), whole->order(), rows});
            EXPECT_TRUE(rest->exact());
            const auto from = passes[pass].begin() + static_cast<int64_t>(std::min(batches, passes[pass].size()));
            EXPECT_EQ(ReadIds(*rest), std::vector(from, passes[pass].end()))
                << config << " rank " << options.rank << " of " << world << " pass " << pass << " after " << batches;
            rest->Rewind();
            EXPECT_EQ(ReadIds(*rest), passes[pass + 1]);
          }
        }
      }
    }
  }
}

TEST_F(Resume, AnotherOrderIsNoticed) {
  const std::string path = WriteParquet("a.parquet", NumberedRows(0, 40));
  const auto order = [&](const std::string& config, const StreamOptions& options) {
    return OpenStream(NumberedConfig("dataset_type: ParquetDataset " + config), options)->order();
  };
  const int64_t first = order("batch_size: 4", {.input_path = path});
  EXPECT_EQ(order("batch_size: 4", {.input_path = path}), first);
  EXPECT_EQ(order("batch_size: 4", {.input_path = path, .rank = 0}), first);
  EXPECT_NE(order("batch_size: 5", {.input_path = path}), first);
  EXPECT_NE(order("batch_size: 4 shuffle: true", {.input_path = path}), first);
  EXPECT_NE(order("batch_size: 4", {.input_path = path, .num_workers = 2}), first);
  EXPECT_NE(order("batch_size: 4", {.input_path = path, .world_size = 2}), first);
  EXPECT_NE(order("batch_size: 4", {.input_path = path, .seed = 1}), first);
  WriteParquet("a.parquet", NumberedRows(0, 41));
  EXPECT_NE(order("batch_size: 4", {.input_path = path}), first);
  // Then the rows tell where to go on.
  const auto stream = OpenStream(NumberedConfig("dataset_type: ParquetDataset batch_size: 4 num_workers: 1"),
                                 {.input_path = path, .resume = {0, 3, first, {{path + ":0", 19}}}});
  EXPECT_FALSE(stream->exact());
  EXPECT_EQ(Joined(ReadIds(*stream)), Numbers(20, 41));
}

// CSV has no rows to tell by: all is read again rather than a part of it left out.
TEST_F(Resume, CsvOfAnotherOrderIsReadWhole) {
  const std::string path = WriteText("a.csv", "id,y\n1,0\n2,0\n3,0\n4,0\n5,0\n");
  const auto open = [&](const std::string& batch, const StreamPosition& at) {
    return OpenStream(NumberedConfig("dataset_type: CsvDataset with_header: true batch_size: " + batch),
                      {.input_path = path, .resume = at});
  };
  const int64_t order = open("1", {})->order();
  const auto same = open("1", {0, 3, order, {}}), other = open("2", {0, 3, order, {}});
  EXPECT_TRUE(same->exact());
  EXPECT_EQ(Joined(ReadIds(*same)), Numbers(4, 6));
  EXPECT_FALSE(other->exact());
  EXPECT_EQ(Joined(ReadIds(*other)), Numbers(1, 6));
  EXPECT_TRUE(open("2", {1, 0, order, {}})->exact());  // a pass that has not begun
}

TEST_F(Resume, TheNextPassReadsEverything) {
  const std::string path = WriteParquet("a.parquet", NumberedRows(0, 20));
  const auto stream = OpenStream(NumberedConfig("dataset_type: ParquetDataset batch_size: 4 num_workers: 1"),
                                 {.input_path = path, .resume = {.rows = {{path + ":0", 11}, {"other.parquet:0", 3}}}});
  EXPECT_EQ(Joined(ReadIds(*stream)), Numbers(12, 20));
  stream->Rewind();
  EXPECT_EQ(Joined(ReadIds(*stream)), Numbers(0, 20));
}

TEST_F(Resume, APassThatWasFinishedIsEmpty) {
  const std::string path = WriteParquet("a.parquet", NumberedRows(0, 20));
  const auto stream = OpenStream(NumberedConfig("dataset_type: ParquetDataset num_workers: 3"),
                                 {.input_path = path, .resume = {.rows = {{path + ":0", 19}}}});
  EXPECT_EQ(stream->Next(), nullptr);
}

TEST_F(Resume, APositionOfOtherDataIsReported) {
  const std::string path = WriteParquet("a.parquet", NumberedRows(0, 20));
  const auto stream = OpenStream(NumberedConfig("dataset_type: ParquetDataset num_workers: 1"),
                                 {.input_path = path, .resume = {.rows = {{path + ":0", 20}}}});
  EXPECT_THAT(MessageOf([&] { stream->Next(); }), testing::HasSubstr("is it other data?"));
}

}  // namespace
}  // namespace anneal::data
