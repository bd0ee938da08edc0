#include "worker/train/delta/delta_file.h"

#include <arrow/array/array_nested.h>
#include <arrow/array/array_primitive.h>
#include <arrow/array/builder_binary.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/io/interfaces.h>
#include <arrow/record_batch.h>
#include <arrow/scalar.h>
#include <arrow/type.h>
#include <parquet/arrow/writer.h>
#include <parquet/exception.h>
#include <parquet/properties.h>

#include <algorithm>

#include "worker/config/error.h"
#include "worker/embedding/quantized_row.h"
#include "worker/train/checkpoint/files.h"

namespace anneal::train {
namespace {

/// Arrow's writers on a file that is synced before it gets its name.
class SyncedStream : public arrow::io::OutputStream {
 public:
  explicit SyncedStream(checkpoint::SyncedFile& file) : file_(file) {}
  arrow::Status Close() override {
    closed_ = true;
    return arrow::Status::OK();
  }
  bool closed() const override { return closed_; }
  arrow::Result<int64_t> Tell() const override { return file_.bytes(); }
  using arrow::io::OutputStream::Write;
  arrow::Status Write(const void* data, int64_t bytes) override {
    file_.Write(data, bytes);
    return arrow::Status::OK();
  }

 private:
  checkpoint::SyncedFile& file_;
  bool closed_ = false;
};

void Check(const arrow::Status& status) {
  if (!status.ok()) throw TemporaryError(status.message());
}

template <typename T>
std::shared_ptr<arrow::Array> Checked(arrow::Result<T> result) {
  Check(result.status());
  return *std::move(result);
}

std::shared_ptr<arrow::Schema> SchemaOf(const DeltaFile& file) {
  return arrow::schema({arrow::field("global_step", arrow::int64()), arrow::field("rank", arrow::int32()),
                        arrow::field("world_size", arrow::int32()), arrow::field("feature_name", arrow::utf8()),
                        arrow::field("table_fqn", arrow::utf8()), arrow::field("key_id", arrow::int64()),
                        arrow::field("embedding", arrow::list(file.quantized ? arrow::uint8() : arrow::float32())),
                        arrow::field("source", arrow::utf8())});
}

/// Rows [begin, begin + count) of `width` values each.
std::shared_ptr<arrow::Array> Embeddings(const DeltaFile& file, const DeltaRows& table, int64_t begin, int64_t count) {
  const int64_t width = table.dim + (file.quantized ? embedding::kQuantizedRowTail : 0);
  const float* values = table.values.data() + begin * table.dim;
  std::shared_ptr<arrow::Array> flat;
  if (file.quantized) {
    std::vector<uint8_t> codes(count * width);
    for (int64_t i = 0; i < count; ++i)
      embedding::QuantizeRow(values + i * table.dim, table.dim, codes.data() + i * width);
    flat = std::make_shared<arrow::UInt8Array>(count * width, arrow::Buffer::FromVector(std::move(codes)));
  } else {
    flat = std::make_shared<arrow::FloatArray>(count * width, arrow::Buffer::Wrap(values, count * width));
  }
  std::vector<int32_t> offsets(count + 1);
  for (int64_t i = 0; i <= count; ++i) offsets[i] = static_cast<int32_t>(i * width);
  return std::make_shared<arrow::ListArray>(arrow::list(flat->type()), count,
                                            arrow::Buffer::FromVector(std::move(offsets)), flat);
}

std::shared_ptr<arrow::RecordBatch> Rows(const DeltaFile& file, const DeltaRows& table, int64_t begin, int64_t count) {
  const auto same = [count](const arrow::Scalar& value) { return Checked(arrow::MakeArrayFromScalar(value, count)); };
  return arrow::RecordBatch::Make(
      SchemaOf(file), count,
      {same(arrow::Int64Scalar(file.global_step)), same(arrow::Int32Scalar(file.rank)),
       same(arrow::Int32Scalar(file.world_size)), same(arrow::StringScalar(table.feature_name)),
       same(arrow::StringScalar(table.table_fqn)),
       std::make_shared<arrow::Int64Array>(count, arrow::Buffer::Wrap(table.keys.data() + begin, count)),
       Embeddings(file, table, begin, count), same(arrow::StringScalar("model_delta_tracker"))});
}

void WriteParquet(checkpoint::SyncedFile& out, const DeltaFile& file) {
  constexpr int64_t kValuesAtATime = 1 << 20;
  const auto stream = std::make_shared<SyncedStream>(out);
  const auto properties = parquet::WriterProperties::Builder().compression(arrow::Compression::SNAPPY)->build();
  auto opened = parquet::arrow::FileWriter::Open(*SchemaOf(file), arrow::default_memory_pool(), stream, properties);
  Check(opened.status());
  const auto writer = std::move(*opened);
  for (const DeltaRows& table : file.tables) {
    const auto rows = static_cast<int64_t>(table.keys.size()), step = std::max<int64_t>(kValuesAtATime / table.dim, 1);
    for (int64_t begin = 0; begin < rows; begin += step) {
      Check(writer->WriteRecordBatch(*Rows(file, table, begin, std::min(step, rows - begin))));
    }
  }
  Check(writer->Close());
}

}  // namespace

void WriteDeltaFile(const std::string& path, const DeltaFile& file) {
  try {
    checkpoint::ReplaceFile(path, [&file](checkpoint::SyncedFile& out) { WriteParquet(out, file); });
  } catch (const parquet::ParquetException& error) {
    throw TemporaryError(path + ": " + error.what());
  }
}

}  // namespace anneal::train
