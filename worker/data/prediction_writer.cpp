#include "worker/data/prediction_writer.h"

#include <arrow/array/array_nested.h>
#include <arrow/array/array_primitive.h>
#include <arrow/buffer.h>
#include <arrow/csv/options.h>
#include <arrow/csv/writer.h>
#include <arrow/io/file.h>
#include <arrow/ipc/writer.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <fcntl.h>
#include <parquet/arrow/writer.h>
#include <parquet/exception.h>
#include <parquet/properties.h>
#include <unistd.h>

#include <filesystem>
#include <limits>
#include <vector>

#include "worker/config/error.h"

namespace anneal::data {
namespace {

template <typename T>
std::shared_ptr<arrow::Buffer> View(const T* data, int64_t count) {
  return std::make_shared<arrow::Buffer>(reinterpret_cast<const uint8_t*>(data), count * sizeof(T));
}

/// One list per row; `length(row)` of the values, which lie one after the other.
template <typename Length>
std::shared_ptr<arrow::Array> Lists(int64_t rows, Length length, const std::shared_ptr<arrow::Array>& values) {
  std::vector<int32_t> offsets(rows + 1, 0);
  for (int64_t i = 0; i < rows; ++i) offsets[i + 1] = offsets[i] + static_cast<int32_t>(length(i));
  return std::make_shared<arrow::ListArray>(arrow::list(values->type()), rows,
                                            arrow::Buffer::FromVector(std::move(offsets)), values);
}

std::shared_ptr<arrow::Array> ToArrow(const OutputColumn& column) {
  const int64_t count = column.rows * std::max<int64_t>(column.cols, 1);
  if (count > std::numeric_limits<int32_t>::max()) {
    throw ConfigError("output " + column.name + ": " + std::to_string(count) + " values in one batch are too many");
  }
  std::shared_ptr<arrow::Array> array;
  if (column.floats == nullptr) {
    array = std::make_shared<arrow::Int64Array>(count, View(column.ints, count));
  } else if (column.cols == 0 && column.row_lengths == nullptr) {
    array = std::make_shared<arrow::FloatArray>(count, View(column.floats, count));
  } else {
    std::vector<double> wide(column.floats, column.floats + count);
    array = std::make_shared<arrow::DoubleArray>(count, arrow::Buffer::FromVector(std::move(wide)));
  }
  if (column.cols > 0)
    array = Lists(
        column.rows, [&](int64_t) { return column.cols; }, array);
  if (column.row_lengths == nullptr) return array;
  const std::vector<int64_t>& lengths = *column.row_lengths;
  return Lists(
      static_cast<int64_t>(lengths.size()), [&](int64_t row) { return lengths[row]; }, array);
}

class ParquetWriter : public PredictionWriter {
 public:
  ParquetWriter(const std::string& directory, int rank)
      : PredictionWriter(directory, "part-" + std::to_string(rank) + ".parquet") {}

 private:
  void Start(const std::string& path, const std::shared_ptr<arrow::Schema>& schema) override {
    auto file = arrow::io::FileOutputStream::Open(path);
    Check(file.status());
    const auto properties = parquet::WriterProperties::Builder().compression(arrow::Compression::SNAPPY)->build();
    auto writer = parquet::arrow::FileWriter::Open(*schema, arrow::default_memory_pool(), *file, properties);
    Check(writer.status());
    file_ = *file;
    writer_ = std::move(*writer);
  }
  void Append(const std::shared_ptr<arrow::RecordBatch>& rows) override { Check(writer_->WriteRecordBatch(*rows)); }
  void Finish() override {
    Check(writer_->Close());
    Check(file_->Close());
  }

  std::shared_ptr<arrow::io::FileOutputStream> file_;
  std::unique_ptr<parquet::arrow::FileWriter> writer_;
};

class CsvWriter : public PredictionWriter {
 public:
  CsvWriter(const std::string& directory, int rank)
      : PredictionWriter(directory, "part-" + std::to_string(rank) + ".csv") {}

 private:
  void Start(const std::string& path, const std::shared_ptr<arrow::Schema>& schema) override {
    for (const auto& field : schema->fields()) {
      if (field->type()->num_fields() > 0) {
        throw ConfigError("output column " + field->name() + " is a " + field->type()->ToString() +
                          ", which a CSV file cannot hold; write Parquet or leave it out of output_columns");
      }
    }
    auto file = arrow::io::FileOutputStream::Open(path);
    Check(file.status());
    auto writer = arrow::csv::MakeCSVWriter(*file, schema, arrow::csv::WriteOptions::Defaults());
    Check(writer.status());
    file_ = *file;
    writer_ = *writer;
  }
  void Append(const std::shared_ptr<arrow::RecordBatch>& rows) override { Check(writer_->WriteRecordBatch(*rows)); }
  void Finish() override {
    Check(writer_->Close());
    if (!file_->closed()) Check(file_->Close());
  }

  std::shared_ptr<arrow::io::FileOutputStream> file_;
  std::shared_ptr<arrow::ipc::RecordBatchWriter> writer_;
};

}  // namespace

std::unique_ptr<PredictionWriter> PredictionWriter::Open(tzrec::protos::DatasetType type, const std::string& directory,
                                                         int rank) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error || !std::filesystem::is_directory(directory)) {
    throw ConfigError("output folder " + directory + " cannot be made" + (error ? ": " + error.message() : ""));
  }
  switch (type) {
    case tzrec::protos::ParquetDataset:
      return std::make_unique<ParquetWriter>(directory, rank);
    case tzrec::protos::CsvDataset:
      return std::make_unique<CsvWriter>(directory, rank);
    default:
      throw ConfigError("predictions cannot be written as " + tzrec::protos::DatasetType_Name(type) +
                        " yet (supported: ParquetDataset, CsvDataset)");
  }
}

PredictionWriter::PredictionWriter(const std::string& directory, const std::string& name)
    : path_(directory + "/" + name), temporary_path_(directory + "/." + name + ".tmp") {}

PredictionWriter::~PredictionWriter() {
  std::error_code ignored;
  if (!committed_) std::filesystem::remove(temporary_path_, ignored);
}

void PredictionWriter::Check(const arrow::Status& status) const {
  if (!status.ok()) throw TemporaryError(path_ + ": " + status.message());
}

void PredictionWriter::Write(std::span<const OutputColumn> outputs,
                             const std::shared_ptr<arrow::RecordBatch>& reserved) {
  arrow::FieldVector fields;
  arrow::ArrayVector arrays;
  const auto add = [&](const std::string& name, std::shared_ptr<arrow::Array> array) {
    fields.push_back(arrow::field(name, array->type()));
    arrays.push_back(std::move(array));
  };
  std::vector<bool> placed(reserved == nullptr ? 0 : reserved->num_columns());
  for (const OutputColumn& output : outputs) {
    const int same = reserved == nullptr ? -1 : reserved->schema()->GetFieldIndex(output.name);
    if (same >= 0) placed[same] = true;
    add(output.name, same >= 0 ? reserved->column(same) : ToArrow(output));
  }
  for (size_t i = 0; i < placed.size(); ++i) {
    const int column = static_cast<int>(i);
    if (!placed[i]) add(reserved->column_name(column), reserved->column(column));
  }
  const int64_t rows = arrays.empty() ? 0 : arrays[0]->length();
  for (size_t i = 0; i < arrays.size(); ++i) {
    if (arrays[i]->length() != rows) {
      throw ConfigError("output column " + fields[i]->name() + " has " + std::to_string(arrays[i]->length()) +
                        " rows where " + fields[0]->name() + " has " + std::to_string(rows));
    }
  }
  if (rows == 0) return;
  const bool first = schema_ == nullptr;
  if (first) schema_ = arrow::schema(std::move(fields));
  const auto batch = arrow::RecordBatch::Make(first ? schema_ : arrow::schema(std::move(fields)), rows, arrays);
  if (!batch->schema()->Equals(*schema_)) {
    throw ConfigError(path_ + ": a batch has other columns than the first: " + batch->schema()->ToString());
  }
  try {
    if (first) Start(temporary_path_, schema_);
    Append(batch);
  } catch (const parquet::ParquetException& error) {
    throw TemporaryError(path_ + ": " + error.what());
  }
  rows_ += rows;
}

void PredictionWriter::Commit() {
  if (schema_ == nullptr || committed_) return;
  try {
    Finish();
  } catch (const parquet::ParquetException& error) {
    throw TemporaryError(path_ + ": " + error.what());
  }
  // On disk before it gets its name, so that a crash never leaves half a file under that name.
  const int file = ::open(temporary_path_.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = file >= 0 && ::fsync(file) == 0;
  if (file >= 0) ::close(file);
  if (!synced) throw TemporaryError(temporary_path_ + " cannot be synced");
  std::error_code error;
  std::filesystem::rename(temporary_path_, path_, error);
  if (error) throw TemporaryError(path_ + " cannot be made: " + error.message());
  committed_ = true;
}

}  // namespace anneal::data
