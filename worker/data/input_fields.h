// Column names and types that the config states: data_config.input_fields and input_fields_str (parity/data.md 1).
#pragma once

#include <arrow/type_fwd.h>

#include <memory>
#include <string>
#include <vector>

#include "tzrec/data.pb.h"

namespace anneal::data {

struct InputField {
  std::string name;
  std::shared_ptr<arrow::DataType> type;  ///< null: not stated, to be inferred
};

/// `input_fields_str` ("user:BIGINT; tags:ARRAY<STRING>;", case-insensitive, INT = INT32, BIGINT = INT64) wins over
/// `input_fields`. Throws ConfigError naming the field.
std::vector<InputField> InputFields(const tzrec::protos::DataConfig& config);

}  // namespace anneal::data
