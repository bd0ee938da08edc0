// Small configs and columns for the feature tests, written as text.
#pragma once

#include <arrow/array.h>
#include <arrow/json/from_string.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "tzrec/pipeline.pb.h"
#include "worker/features/feature_program.h"
#include "worker/features/feature_set.h"

namespace anneal::features {

inline tzrec::protos::EasyRecConfig ParseConfig(const std::string& text) {
  tzrec::protos::EasyRecConfig config;
  google::protobuf::TextFormat::Parser parser;
  parser.AllowPartialMessage(true);
  if (!parser.ParseFromString(text, &config)) throw std::runtime_error("bad config: " + text);
  return config;
}

inline tzrec::protos::EasyRecConfig ParseConfigFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  std::stringstream text;
  text << file.rdbuf();
  return ParseConfig(text.str());
}

inline std::string SharedPath(const std::string& path) { return std::string(ANNEAL_SOURCE_DIR) + "/../shared/" + path; }

struct Column {
  std::string name;
  std::shared_ptr<arrow::DataType> type;
  std::string json;  // ["a", null]
};

inline std::shared_ptr<arrow::RecordBatch> MakeRows(const std::vector<Column>& columns) {
  arrow::FieldVector fields;
  arrow::ArrayVector arrays;
  for (const Column& column : columns) {
    fields.push_back(arrow::field(column.name, column.type));
    arrays.push_back(arrow::json::ArrayFromJSONString(column.type, column.json).ValueOrDie());
  }
  const int64_t rows = arrays.empty() ? 0 : arrays[0]->length();
  return arrow::RecordBatch::Make(arrow::schema(fields), rows, arrays);
}

/// The batch that a config makes of some columns.
inline data::Batch RunConfig(const std::string& config_text, const std::vector<Column>& columns) {
  const tzrec::protos::EasyRecConfig config = ParseConfig(config_text);
  const FeatureSet set = FeatureSet::FromConfig(config);
  const auto rows = MakeRows(columns);
  data::Batch batch;
  FeatureProgram(set, config, *rows->schema()).Run(rows, batch);
  return batch;
}

/// What went wrong, as the user reads it; "" when nothing did.
template <typename Call>
std::string MessageOf(Call&& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

inline std::vector<int64_t> Lengths(const data::KeyedJagged& sparse) {
  std::vector<int64_t> lengths;
  for (size_t i = 1; i < sparse.offsets.size(); ++i) lengths.push_back(sparse.offsets[i] - sparse.offsets[i - 1]);
  return lengths;
}

}  // namespace anneal::features
