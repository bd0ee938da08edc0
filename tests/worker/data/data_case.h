// Files for the data tests, and streams over them.
#pragma once

#include <arrow/io/compressed.h>
#include <arrow/io/file.h>
#include <arrow/table.h>
#include <arrow/util/compression.h>
#include <parquet/arrow/writer.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "tests/worker/features/feature_case.h"
#include "worker/data/batch_stream.h"

namespace anneal::data {

using features::Column;
using features::MakeRows;
using features::MessageOf;
using features::ParseConfig;
using features::SharedPath;

/// An empty folder for each test, gone afterwards.
class DataTest : public testing::Test {
 protected:
  DataTest() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = "data-" + std::to_string(getpid()) + "-" + info->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~DataTest() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }

  std::string WriteParquet(const std::string& name, const std::shared_ptr<arrow::RecordBatch>& rows,
                           int64_t row_group = 1 << 20) const {
    auto file = arrow::io::FileOutputStream::Open(Path(name)).ValueOrDie();
    const auto table = arrow::Table::FromRecordBatches({rows}).ValueOrDie();
    EXPECT_TRUE(parquet::arrow::WriteTable(*table, arrow::default_memory_pool(), file, row_group).ok());
    EXPECT_TRUE(file->Close().ok());
    return Path(name);
  }

  std::string WriteText(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name), std::ios::binary) << text;
    return Path(name);
  }

  std::string WriteCompressed(const std::string& name, const std::string& text, arrow::Compression::type type) const {
    auto codec = arrow::util::Codec::Create(type).ValueOrDie();
    auto file = arrow::io::FileOutputStream::Open(Path(name)).ValueOrDie();
    auto stream = arrow::io::CompressedOutputStream::Make(codec.get(), file).ValueOrDie();
    EXPECT_TRUE(stream->Write(text).ok());
    EXPECT_TRUE(stream->Close().ok());
    return Path(name);
  }

  std::string folder_;
};

/// Columns id = first .. first + count - 1 (int64) and y = id mod 2 (float).
inline std::shared_ptr<arrow::RecordBatch> NumberedRows(int64_t first, int64_t count) {
  std::string ids = "[", labels = "[";
  for (int64_t i = first; i < first + count; ++i) {
    ids += (i == first ? "" : ",") + std::to_string(i);
    labels += (i == first ? "" : ",") + std::to_string(i % 2);
  }
  return MakeRows({{"id", arrow::int64(), ids + "]"}, {"y", arrow::float32(), labels + "]"}});
}

/// A config that reads NumberedRows.
inline std::string NumberedConfig(const std::string& data_config) {
  return "data_config { label_fields: 'y' " + data_config +
         " } feature_configs { id_feature { feature_name: 'id' embedding_dim: 4 num_buckets: 1000000 } }";
}

inline std::unique_ptr<BatchStream> OpenStream(const std::string& config_text, const StreamOptions& options) {
  const auto config = ParseConfig(config_text);
  return std::make_unique<BatchStream>(config, features::FeatureSet::FromConfig(config), options);
}

/// The ids of each batch of the rest of the pass. `recycle` uses the buffers again.
inline std::vector<std::vector<int64_t>> ReadIds(BatchStream& stream, bool recycle = true) {
  std::vector<std::vector<int64_t>> batches;
  while (auto batch = stream.Next()) {
    batches.emplace_back(batch->sparse.values.begin(), batch->sparse.values.end());
    EXPECT_EQ(batch->rows, static_cast<int64_t>(batch->sparse.values.size()));
    if (recycle) stream.Recycle(std::move(batch));
  }
  return batches;
}

inline std::vector<int64_t> Joined(const std::vector<std::vector<int64_t>>& batches) {
  std::vector<int64_t> all;
  for (const auto& batch : batches) all.insert(all.end(), batch.begin(), batch.end());
  return all;
}

inline std::vector<int64_t> Sorted(std::vector<int64_t> values) {
  std::sort(values.begin(), values.end());
  return values;
}

inline std::vector<int64_t> Numbers(int64_t first, int64_t end) {
  std::vector<int64_t> numbers(end - first);
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

}  // namespace anneal::data
