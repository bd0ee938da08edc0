#include "worker/data/csv_dataset.h"

#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "worker/config/error.h"
#include "worker/data/csv_file.h"
#include "worker/data/file_list.h"

namespace anneal::data {
namespace {

constexpr int32_t kInferenceBytes = 64 << 20;  // the reference's block: rows that decide about a type
constexpr int32_t kHeaderBytes = 1 << 20;      // enough when every type is stated

/// True when the config states the column's type.
bool IsStated(const std::string& name, const std::vector<InputField>& fields) {
  return std::any_of(fields.begin(), fields.end(),
                     [&](const InputField& field) { return field.name == name && field.type != nullptr; });
}

/// True when the config states the type of every column to read.
bool AllTypesStated(const ColumnSelection& selection, const std::vector<InputField>& fields) {
  const auto stated = [&](const std::string& name) { return IsStated(name, fields); };
  return !selection.all && std::all_of(selection.names.begin(), selection.names.end(), stated) &&
         std::all_of(selection.optional.begin(), selection.optional.end(), stated);
}

/// Arrow infers "null" for a column without a value.
bool LacksTypes(const arrow::Schema& schema, const ColumnSelection& selection) {
  return std::any_of(schema.fields().begin(), schema.fields().end(), [&](const auto& field) {
    return field->type()->id() == arrow::Type::NA &&
           (selection.all ||
            std::find(selection.names.begin(), selection.names.end(), field->name()) != selection.names.end());
  });
}

/// `schema` with numbers where only cells of text made Arrow guess otherwise: reading then names the row of such a
/// cell.
std::shared_ptr<arrow::Schema> ExpectNumbers(std::shared_ptr<arrow::Schema> schema,
                                             const std::vector<std::string>& numbers,
                                             const std::vector<InputField>& fields) {
  for (const std::string& name : numbers) {
    const int index = schema->GetFieldIndex(name);
    if (index < 0 || schema->field(index)->type()->id() != arrow::Type::STRING || IsStated(name, fields)) continue;
    schema = schema->SetField(index, arrow::field(name, arrow::float64())).ValueOrDie();
  }
  return schema;
}

class CsvReader : public RowReader {
 public:
  CsvReader(std::vector<std::string> files, CsvFormat format) : files_(std::move(files)), format_(std::move(format)) {}

  bool Next(RowSlice* out) override {
    for (;;) {
      if (file_ == nullptr) {
        if (next_file_ == files_.size()) return false;
        path_ = std::make_shared<const std::string>(files_[next_file_++]);
        file_ = std::make_unique<CsvFile>(*path_, format_);
        row_ = format_.with_header ? 2 : 1;
      }
      std::shared_ptr<arrow::RecordBatch> rows = file_->Next();
      if (rows == nullptr) {
        file_.reset();
        continue;
      }
      if (rows->num_rows() == 0) continue;
      out->begin = 0;
      out->count = rows->num_rows();
      out->file = path_;
      out->row_in_file = row_;
      out->source = nullptr;
      out->position = 0;
      row_ += out->count;
      out->rows = std::move(rows);
      return true;
    }
  }

 private:
  std::vector<std::string> files_;
  CsvFormat format_;
  size_t next_file_ = 0;
  std::shared_ptr<const std::string> path_;
  std::unique_ptr<CsvFile> file_;
  int64_t row_ = 1;
};

}  // namespace

CsvDataset::CsvDataset(const tzrec::protos::DataConfig& config, const DatasetOptions& options)
    : options_(options),
      files_(ListFiles(options.input_path)),
      fields_(InputFields(config)),
      with_header_(config.with_header()) {
  if (config.delimiter().size() != 1) {
    throw ConfigError("data_config.delimiter \"" + config.delimiter() + "\" is not one character");
  }
  delimiter_ = config.delimiter()[0];
  if (!with_header_ && fields_.empty()) {
    throw ConfigError("data_config: CSV needs with_header or the column names in input_fields");
  }
  for (const InputField& field : fields_) {
    if (field.type != nullptr && field.type->num_fields() > 0) {
      throw ConfigError("data_config.input_fields: column " + field.name + ": a CSV column cannot be " +
                        field.type->ToString());
    }
  }
  const int files = static_cast<int>(files_.size());
  if (files < options.world_size) {
    throw ConfigError("input path " + options.input_path + ": " + std::to_string(files) + " CSV files for " +
                      std::to_string(options.world_size) + " ranks; every rank needs one");
  }
  workers_ = std::min(options.num_workers, files / options.world_size);

  const bool stated = AllTypesStated(options.columns, fields_);
  CsvFormat format{delimiter_, with_header_, fields_, {}, stated ? kHeaderBytes : kInferenceBytes};
  // The first file that tells the types of all columns; one without a row tells none.
  constexpr size_t kMost = 64;
  size_t first = 0;
  auto schema = CsvFile(files_[0], format).schema();
  for (size_t i = 1; LacksTypes(*schema, options.columns) && i < std::min(files_.size(), kMost); ++i) {
    const auto other = CsvFile(files_[i], format).schema();
    if (LacksTypes(*other, options.columns)) continue;
    schema = other;
    first = i;
  }
  schema_ = ExpectNumbers(Project(*schema, SelectColumns(*schema, options.columns, files_[first])),
                          options.columns.numbers, fields_);
}

std::string CsvDataset::identity() const {
  std::string files;
  for (const std::string& file : files_) {
    std::error_code ignored;
    files += file + " " + std::to_string(std::filesystem::file_size(file, ignored)) + "\n";
  }
  return files;
}

std::unique_ptr<RowReader> CsvDataset::Open(int worker, int64_t pass, int64_t,
                                            const std::map<std::string, int64_t>&) const {
  const size_t id = static_cast<size_t>(options_.rank) * workers_ + worker;
  const size_t count = static_cast<size_t>(options_.world_size) * workers_;
  std::vector<std::string> mine;
  for (size_t i = id; i < files_.size(); i += count) mine.push_back(files_[i]);
  if (options_.shuffle_files) {
    std::seed_seq seed{options_.seed, static_cast<uint64_t>(id), static_cast<uint64_t>(pass)};
    std::mt19937_64 random(seed);
    std::shuffle(mine.begin(), mine.end(), random);
  }
  CsvFormat format{delimiter_, with_header_, {}, schema_->field_names()};
  if (!with_header_) format.fields = fields_;
  for (const auto& field : schema_->fields()) {
    const auto stated = std::find_if(format.fields.begin(), format.fields.end(),
                                     [&](const InputField& one) { return one.name == field->name(); });
    if (stated == format.fields.end()) {
      format.fields.push_back({field->name(), field->type()});
    } else {
      stated->type = field->type();
    }
  }
  return std::make_unique<CsvReader>(std::move(mine), std::move(format));
}

}  // namespace anneal::data
