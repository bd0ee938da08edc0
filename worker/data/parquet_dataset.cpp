#include "worker/data/parquet_dataset.h"

#include <arrow/io/file.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/schema.h>
#include <parquet/exception.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>
#include <parquet/schema.h>

#include <algorithm>
#include <set>

#include "worker/config/error.h"
#include "worker/data/file_list.h"

namespace anneal::data {
namespace {

/// Arrow reports by Status, Parquet by exception; the user sees one DataError with the file's name.
[[noreturn]] void ThrowFileError(const std::string& path, const std::string& what) {
  throw DataError(path + ": " + what);
}

template <typename Call>
auto Guarded(const std::string& path, Call&& call) {
  try {
    return call();
  } catch (const parquet::ParquetException& error) {
    ThrowFileError(path, error.what());
  }
}

void Check(const std::string& path, const arrow::Status& status) {
  if (!status.ok()) ThrowFileError(path, status.message());
}

std::shared_ptr<arrow::io::ReadableFile> OpenFile(const std::string& path) {
  auto file = arrow::io::ReadableFile::Open(path);
  Check(path, file.status());
  return *file;
}

/// Parquet numbers leaves, a list or map has several under one name.
std::vector<int> LeavesOf(const parquet::SchemaDescriptor& descriptor, const arrow::Schema& columns) {
  std::set<std::string> names;
  for (const auto& field : columns.fields()) names.insert(field->name());
  std::vector<int> leaves;
  for (int i = 0; i < descriptor.num_columns(); ++i) {
    if (names.contains(descriptor.GetColumnRoot(i)->name())) leaves.push_back(i);
  }
  return leaves;
}

class ParquetReader : public RowReader {
 public:
  ParquetReader(const std::vector<ParquetDataset::File>& files, std::vector<RowRange> ranges,
                const std::string& input_path, int64_t chunk_rows, int64_t skip)
      : files_(files), ranges_(std::move(ranges)), chunk_rows_(chunk_rows) {
    for (const RowRange& range : ranges_) {
      sources_.push_back(std::make_shared<const std::string>(input_path + ":" + std::to_string(range.begin)));
    }
    while (range_ < ranges_.size() && skip >= ranges_[range_].size()) skip -= ranges_[range_++].size();
    if (range_ < ranges_.size()) row_ = ranges_[range_].begin + skip;
  }

  bool Next(RowSlice* out) override {
    while (range_ < ranges_.size()) {
      const RowRange& range = ranges_[range_];
      if (row_ == range.end) {
        batches_.reset();
        if (++range_ < ranges_.size()) row_ = ranges_[range_].begin;
        continue;
      }
      if (batches_ == nullptr) OpenAt(row_, range.end);
      std::shared_ptr<arrow::RecordBatch> rows;
      Guarded(path(), [&] { Check(path(), batches_->ReadNext(&rows)); });
      if (rows == nullptr) {
        if (row_ < std::min(range.end, file_->end)) ThrowFileError(path(), "ends before its last row");
        batches_.reset();
        continue;
      }
      const int64_t begin = std::max(decoded_, row_);
      const int64_t end = std::min(decoded_ + rows->num_rows(), range.end);
      const int64_t first = decoded_;
      decoded_ += rows->num_rows();
      if (begin >= end) continue;  // rows of the row group before the slice
      out->begin = begin - first;
      out->count = end - begin;
      out->rows = file_->order.empty() ? std::move(rows) : InSchemaOrder(*rows);
      out->file = file_->path;
      out->row_in_file = begin - file_->begin + 1;
      out->source = sources_[range_];
      out->position = begin;
      row_ = end;
      return true;
    }
    return false;
  }

 private:
  const std::string& path() const { return *file_->path; }

  std::shared_ptr<arrow::RecordBatch> InSchemaOrder(const arrow::RecordBatch& rows) const {
    auto ordered = rows.SelectColumns(file_->order);
    Check(path(), ordered.status());
    return *ordered;
  }

  /// Starts reading at `row`, in the file that holds it, with only the row groups that hold rows below `end`.
  void OpenAt(int64_t row, int64_t end) {
    file_ = &*std::upper_bound(files_.begin(), files_.end(), row,
                               [](int64_t at, const ParquetDataset::File& file) { return at < file.end; });
    std::vector<int> row_groups;
    int64_t group_begin = file_->begin;
    for (int i = 0; i < file_->metadata->num_row_groups(); ++i) {
      const int64_t group_end = group_begin + file_->metadata->RowGroup(i)->num_rows();
      if (group_end > row && group_begin < end) {
        if (row_groups.empty()) decoded_ = group_begin;
        row_groups.push_back(i);
      }
      group_begin = group_end;
    }
    Guarded(path(), [&] {
      batches_.reset();
      auto file =
          parquet::ParquetFileReader::Open(OpenFile(path()), parquet::default_reader_properties(), file_->metadata);
      parquet::ArrowReaderProperties properties(/*use_threads=*/false);
      properties.set_batch_size(chunk_rows_);
      properties.set_pre_buffer(false);
      auto reader = parquet::arrow::FileReader::Make(arrow::default_memory_pool(), std::move(file), properties);
      Check(path(), reader.status());
      reader_ = std::move(*reader);
      auto batches = reader_->GetRecordBatchReader(row_groups, file_->leaves);
      Check(path(), batches.status());
      batches_ = std::move(*batches);
    });
  }

  const std::vector<ParquetDataset::File>& files_;
  std::vector<RowRange> ranges_;
  std::vector<std::shared_ptr<const std::string>> sources_;  ///< of each range
  int64_t chunk_rows_;
  size_t range_ = 0;
  int64_t row_ = 0;                             ///< next row to hand out
  int64_t decoded_ = 0;                         ///< first row of the next record batch
  const ParquetDataset::File* file_ = nullptr;  ///< of batches_
  std::unique_ptr<parquet::arrow::FileReader> reader_;
  std::unique_ptr<arrow::RecordBatchReader> batches_;  ///< null: the next row's file has to be opened
};

/// Footer and selected columns of one file; `schema` becomes theirs, in the file's order.
ParquetDataset::File OpenFooter(const std::string& path, const ColumnSelection& selection,
                                std::shared_ptr<arrow::Schema>* schema) {
  ParquetDataset::File file;
  file.path = std::make_shared<const std::string>(path);
  Guarded(path, [&] {
    const auto reader = parquet::ParquetFileReader::Open(OpenFile(path));
    file.metadata = reader->metadata();
    std::shared_ptr<arrow::Schema> all;
    Check(path, parquet::arrow::FromParquetSchema(file.metadata->schema(), parquet::default_arrow_reader_properties(),
                                                  file.metadata->key_value_metadata(), &all));
    *schema = Project(*all, SelectColumns(*all, selection, path));
    file.leaves = LeavesOf(*file.metadata->schema(), **schema);
  });
  return file;
}

}  // namespace

ParquetDataset::ParquetDataset(const DatasetOptions& options) : options_(options) {
  for (const std::string& path : ListFiles(options.input_path)) {
    std::shared_ptr<arrow::Schema> schema;
    File file = OpenFooter(path, options.columns, &schema);
    if (schema_ == nullptr) {
      schema_ = schema;
    } else {
      CheckSameTypes(*schema_, *files_[0].path, *schema, path);
      for (const auto& field : schema_->fields()) file.order.push_back(schema->GetFieldIndex(field->name()));
      if (std::is_sorted(file.order.begin(), file.order.end()) && schema->num_fields() == schema_->num_fields()) {
        file.order.clear();
      }
    }
    file.begin = total_rows_;
    total_rows_ += file.metadata->num_rows();
    file.end = total_rows_;
    files_.push_back(std::move(file));
  }
}

RowRange ParquetDataset::ShareOf(int worker, int64_t rows) const {
  return ShareOfRows(rows, static_cast<int64_t>(options_.rank) * options_.num_workers + worker,
                     static_cast<int64_t>(options_.world_size) * options_.num_workers, options_.even_batch_size);
}

int64_t ParquetDataset::RowsOf(int worker) const { return ShareOf(worker, total_rows_).size(); }

std::string ParquetDataset::identity() const { return std::to_string(total_rows_) + " rows"; }

std::unique_ptr<RowReader> ParquetDataset::Open(int worker, int64_t, int64_t skip,
                                                const std::map<std::string, int64_t>& consumed) const {
  const std::vector<RowRange> unread = RemainingRows(consumed, options_.input_path, total_rows_);
  std::vector<RowRange> ranges = PartOfRanges(unread, ShareOf(worker, CountRows(unread)));
  return std::make_unique<ParquetReader>(files_, std::move(ranges), options_.input_path, options_.chunk_rows, skip);
}

}  // namespace anneal::data
