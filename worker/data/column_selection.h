// Which columns of a file are read, and whether their types are ones that we read (parity/data.md 1).
#pragma once

#include <arrow/type_fwd.h>

#include <memory>
#include <string>
#include <vector>

namespace anneal::data {

/// Columns to read; `all` reads every column of the file.
struct ColumnSelection {
  std::vector<std::string> names;
  bool all = false;
  std::vector<std::string> optional;  ///< read if the first file has them; then every file needs them
  std::vector<std::string> numbers;   ///< of names, those that have to hold numbers: labels and weights
};

/// Positions in `schema` of the selected columns, ascending: columns keep the file's order. Throws DataError naming
/// `file` and the column for one that is missing (with the nearest names that exist) or there twice, and for a type
/// that is not supported: "column [x] with dtype bool is not supported now.".
std::vector<int> SelectColumns(const arrow::Schema& schema, const ColumnSelection& selection, const std::string& file);

/// The schema of these columns.
std::shared_ptr<arrow::Schema> Project(const arrow::Schema& schema, const std::vector<int>& columns);

/// Throws DataError unless both files give each selected column the same type (names and nullability of list elements
/// do not matter).
void CheckSameTypes(const arrow::Schema& first, const std::string& first_file, const arrow::Schema& other,
                    const std::string& other_file);

/// Throws DataError "<file>: column <wanted> is missing; did you mean <nearest of names>".
[[noreturn]] void ThrowMissingColumn(const std::string& file, const std::string& wanted,
                                     const std::vector<std::string>& names);

/// Up to three of `names` that look like `wanted`, nearest first (edit distance).
std::vector<std::string> NearestNames(const std::string& wanted, const std::vector<std::string>& names);

}  // namespace anneal::data
