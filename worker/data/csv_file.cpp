#include "worker/data/csv_file.h"

#include <arrow/buffer.h>
#include <arrow/csv/options.h>
#include <arrow/csv/reader.h>
#include <arrow/io/compressed.h>
#include <arrow/io/file.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <arrow/util/compression.h>

#include <algorithm>
#include <charconv>

#include "worker/config/error.h"
#include "worker/data/column_selection.h"

namespace anneal::data {
namespace {

arrow::Compression::type CompressionOf(const std::string& path) {
  if (path.ends_with(".gz")) return arrow::Compression::GZIP;
  if (path.ends_with(".zst")) return arrow::Compression::ZSTD;
  if (path.ends_with(".bz2")) return arrow::Compression::BZ2;
  if (path.ends_with(".lz4")) return arrow::Compression::LZ4_FRAME;
  return arrow::Compression::UNCOMPRESSED;
}

/// The number after `mark` in `text`, or -1.
int64_t NumberAfter(const std::string& text, const std::string& mark) {
  const size_t at = text.find(mark);
  int64_t number = -1;
  if (at != std::string::npos) std::from_chars(text.data() + at + mark.size(), text.data() + text.size(), number);
  return number;
}

template <typename T>
T Opened(arrow::Result<T> result, const std::string& path) {
  if (!result.ok()) throw DataError(path + ": " + result.status().message());
  return std::move(result).ValueUnsafe();
}

}  // namespace

class CsvFile::Impl {
 public:
  Impl(const std::string& path, const CsvFormat& format)
      : path_(path), delimiter_(format.delimiter), with_header_(format.with_header) {
    std::shared_ptr<arrow::io::InputStream> stream = Opened(arrow::io::ReadableFile::Open(path), path);
    if (const auto compression = CompressionOf(path); compression != arrow::Compression::UNCOMPRESSED) {
      codec_ = Opened(arrow::util::Codec::Create(compression), path);
      stream = Opened(arrow::io::CompressedInputStream::Make(codec_.get(), stream), path);
    }
    auto read = arrow::csv::ReadOptions::Defaults();
    read.use_threads = false;  // only then Arrow counts rows for its messages
    read.block_size = format.block_bytes;
    auto parse = arrow::csv::ParseOptions::Defaults();
    parse.delimiter = format.delimiter;
    auto convert = arrow::csv::ConvertOptions::Defaults();
    convert.include_columns = format.columns;
    for (const InputField& field : format.fields) {
      if (field.type != nullptr) convert.column_types[field.name] = field.type;
      if (!format.with_header) read.column_names.push_back(field.name);
    }
    names_ = read.column_names;
    auto reader = arrow::csv::StreamingReader::Make(arrow::io::default_io_context(), stream, read, parse, convert);
    if (!reader.ok()) Throw(reader.status());
    reader_ = *reader;
  }

  std::shared_ptr<arrow::Schema> schema() const { return reader_->schema(); }

  std::shared_ptr<arrow::RecordBatch> Next() {
    std::shared_ptr<arrow::RecordBatch> rows;
    const arrow::Status status = reader_->ReadNext(&rows);
    if (!status.ok()) Throw(status);
    return rows;
  }

 private:
  /// Names for a message about a column, as far as the header can be read.
  void ReadHeader() {
    auto file = arrow::io::ReadableFile::Open(path_);
    if (!file.ok()) return;
    std::shared_ptr<arrow::io::InputStream> stream = *file;
    if (codec_ != nullptr) {
      auto plain = arrow::io::CompressedInputStream::Make(codec_.get(), stream);
      if (!plain.ok()) return;
      stream = *plain;
    }
    constexpr int64_t kLongestHeader = 1 << 20;
    const auto head = stream->Read(kLongestHeader);
    if (!head.ok()) return;
    std::string line((*head)->ToString());
    line.resize(std::min(line.find_first_of("\r\n"), line.size()));
    for (size_t begin = 0; begin <= line.size();) {
      const size_t end = std::min(line.find(delimiter_, begin), line.size());
      names_.push_back(line.substr(begin, end - begin));
      begin = end + 1;
    }
  }

  /// Arrow's "In CSV column #0: Row #4: CSV conversion error to int64: invalid value 'z'" in the words of the user's
  /// file.
  [[noreturn]] void Throw(const arrow::Status& status) {
    if (with_header_) ReadHeader();
    const std::string& message = status.message();
    if (const size_t end = message.find("' in include_columns does not exist"); end != std::string::npos) {
      const size_t begin = message.find('\'') + 1;
      ThrowMissingColumn(path_, message.substr(begin, end - begin), names_);
    }
    const int64_t row = NumberAfter(message, "Row #"), column = NumberAfter(message, "CSV column #");
    std::string where = path_;
    if (row >= 0) where += " row " + std::to_string(row);
    if (column >= 0) {
      const bool named = column < static_cast<int64_t>(names_.size());
      where += ", column " + (named ? names_[column] : "#" + std::to_string(column + 1));
    }
    size_t detail = 0;  // after the last of Arrow's own positions
    for (const char* mark : {"CSV conversion error ", "CSV parse error: "}) {
      if (const size_t at = message.find(mark); at != std::string::npos) detail = at;
    }
    constexpr size_t kMost = 300;
    throw DataError(where + ": " + message.substr(detail, kMost));
  }

  std::string path_;
  char delimiter_;
  bool with_header_;
  std::unique_ptr<arrow::util::Codec> codec_;  // outlives the stream in reader_
  std::vector<std::string> names_;             ///< of the file's columns, when known
  std::shared_ptr<arrow::csv::StreamingReader> reader_;
};

CsvFile::CsvFile(const std::string& path, const CsvFormat& format) : impl_(std::make_unique<Impl>(path, format)) {}
CsvFile::~CsvFile() = default;
std::shared_ptr<arrow::Schema> CsvFile::schema() const { return impl_->schema(); }
std::shared_ptr<arrow::RecordBatch> CsvFile::Next() { return impl_->Next(); }

}  // namespace anneal::data
