// Life and death of the reader threads.
#include <gmock/gmock.h>

#include <thread>

#include "tests/worker/data/data_case.h"
#include "worker/data/batch_queue.h"

namespace anneal::data {
namespace {

class StreamThreads : public DataTest {
 protected:
  std::unique_ptr<BatchStream> Open(int workers) {
    if (!std::filesystem::exists(Path("a.parquet"))) WriteParquet("a.parquet", NumberedRows(0, 5000), 500);
    return OpenStream(NumberedConfig("dataset_type: ParquetDataset batch_size: 10"),
                      {.input_path = Path("a.parquet"), .num_workers = workers});
  }
};

TEST_F(StreamThreads, MayBeDestroyedAtAnyTime) {
  for (int batches = 0; batches < 25; ++batches) {
    const auto stream = Open(1 + batches % 4);
    for (int i = 0; i < batches; ++i) ASSERT_NE(stream->Next(), nullptr);
    if (batches % 5 == 4) std::this_thread::sleep_for(std::chrono::milliseconds(5));  // queues are full
  }
}

TEST_F(StreamThreads, MayBeRewoundAtAnyTime) {
  const auto stream = Open(2);
  for (int pass = 0; pass < 20; ++pass) {
    for (int i = 0; i < pass; ++i) stream->Recycle(stream->Next());
    stream->Rewind();
  }
  EXPECT_EQ(Sorted(Joined(ReadIds(*stream))), Numbers(0, 5000));
}

TEST_F(StreamThreads, ACsvReaderStopsMidFile) {
  std::string text = "id,y\n";
  for (int i = 0; i < 200000; ++i) text += std::to_string(i) + ",1\n";
  WriteText("a.csv", text);
  WriteCompressed("b.csv.gz", text, arrow::Compression::GZIP);
  for (int batches = 0; batches < 6; ++batches) {
    const auto stream = OpenStream(NumberedConfig("dataset_type: CsvDataset with_header: true batch_size: 100"),
                                   {.input_path = Path("*.csv*"), .num_workers = 2});
    for (int i = 0; i < batches; ++i) ASSERT_NE(stream->Next(), nullptr);
  }
}

TEST_F(StreamThreads, AnErrorOfOneWorkerComesInItsTurn) {
  std::string ids = "[", labels = "[";
  for (int i = 0; i < 40; ++i) {
    ids += std::string(i == 0 ? "" : ",") + (i == 35 ? "\"bad\"" : "\"" + std::to_string(i) + "\"");
    labels += i == 0 ? "0" : ",0";
  }
  const std::string path =
      WriteParquet("bad.parquet", MakeRows({{"id", arrow::utf8(), ids + "]"}, {"y", arrow::float32(), labels + "]"}}));
  for (int run = 0; run < 10; ++run) {
    const auto stream = OpenStream(NumberedConfig("dataset_type: ParquetDataset batch_size: 5"),
                                   {.input_path = path, .num_workers = 2});
    // Rows 0-19 and 20-39 in turn: 0, 20, 5, 25, 10, 30, 15, and then the batch with row 36.
    for (int i = 0; i < 7; ++i) ASSERT_NE(stream->Next(), nullptr);
    EXPECT_THAT(MessageOf([&] { stream->Next(); }), testing::HasSubstr("row 36, column id: \"bad\""));
  }
}

TEST_F(StreamThreads, WaitingIsMeasuredAndBuffersComeBack) {
  const auto stream = Open(1);
  std::vector<const int64_t*> buffers;
  int batches = 0;
  while (auto batch = stream->Next()) {
    ++batches;
    buffers.push_back(batch->sparse.values.data());
    stream->Recycle(std::move(batch));
  }
  EXPECT_EQ(batches, 500);
  std::sort(buffers.begin(), buffers.end());
  buffers.erase(std::unique(buffers.begin(), buffers.end()), buffers.end());
  EXPECT_LT(buffers.size(), 12u) << "a handful of buffers serve all batches";
  EXPECT_GT(stream->wait_seconds(), 0.0);
  stream->Recycle(nullptr);
}

TEST(BatchQueueTest, CloseWakesBothSides) {
  BatchQueue queue(1);
  ASSERT_TRUE(queue.Push(std::make_unique<Batch>()));
  std::thread writer([&] { EXPECT_FALSE(queue.Push(std::make_unique<Batch>())); });
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  queue.Close();
  writer.join();
  EXPECT_EQ(queue.Pop(), nullptr);

  BatchQueue empty(1);
  std::thread reader([&] { EXPECT_EQ(empty.Pop(), nullptr); });
  empty.Close();
  reader.join();
}

TEST(BatchQueueTest, BatchesBeforeAnErrorArrive) {
  BatchQueue queue(4);
  ASSERT_TRUE(queue.Push(std::make_unique<Batch>()));
  EXPECT_TRUE(queue.Ready());
  queue.End(std::make_exception_ptr(std::runtime_error("late")));
  EXPECT_NE(queue.Pop(), nullptr);
  EXPECT_THROW(queue.Pop(), std::runtime_error);
  EXPECT_THROW(queue.Pop(), std::runtime_error);
}

}  // namespace
}  // namespace anneal::data
