#include "worker/data/column_selection.h"

#include <arrow/type.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "worker/config/error.h"

namespace anneal::data {
namespace {

using arrow::DataType;
using arrow::Type;

bool IsScalar(const DataType& type) {
  switch (type.id()) {
    case Type::INT32:
    case Type::INT64:
    case Type::FLOAT:
    case Type::DOUBLE:
    case Type::STRING:
      return true;
    default:
      return false;
  }
}

bool IsSupported(const DataType& type) {
  if (type.id() == Type::LIST) {
    const DataType& element = *type.field(0)->type();
    return IsScalar(element) || (element.id() == Type::LIST && IsScalar(*element.field(0)->type()));
  }
  if (type.id() == Type::MAP) {
    const auto& map = static_cast<const arrow::MapType&>(type);
    const Type::type key = map.key_type()->id();
    return (key == Type::STRING || key == Type::INT64 || key == Type::INT32) && IsScalar(*map.item_type());
  }
  return IsScalar(type);
}

bool SameType(const DataType& a, const DataType& b) {
  if (a.id() != b.id() || a.num_fields() != b.num_fields()) return false;
  for (int i = 0; i < a.num_fields(); ++i) {
    if (!SameType(*a.field(i)->type(), *b.field(i)->type())) return false;
  }
  return true;
}

size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

}  // namespace

std::vector<std::string> NearestNames(const std::string& wanted, const std::vector<std::string>& names) {
  constexpr size_t kLongest = 200;  // bounds the work on hostile files
  constexpr size_t kMost = 3;
  std::vector<std::pair<size_t, std::string>> near;
  if (wanted.size() <= kLongest) {
    for (const std::string& name : names) {
      if (name.size() > kLongest) continue;
      const size_t distance = EditDistance(wanted, name);
      if (distance <= std::max<size_t>(2, wanted.size() / 3)) near.emplace_back(distance, name);
    }
  }
  std::sort(near.begin(), near.end());
  std::vector<std::string> result;
  for (size_t i = 0; i < std::min(near.size(), kMost); ++i) result.push_back(near[i].second);
  return result;
}

void ThrowMissingColumn(const std::string& file, const std::string& wanted, const std::vector<std::string>& names) {
  std::string hint;
  for (const std::string& near : NearestNames(wanted, names)) {
    hint += (hint.empty() ? "; did you mean " : ", ") + near;
  }
  throw DataError(file + ": column " + wanted + " is missing" + hint);
}

std::vector<int> SelectColumns(const arrow::Schema& schema, const ColumnSelection& selection, const std::string& file) {
  std::set<int> columns;
  if (selection.all) {
    for (int i = 0; i < schema.num_fields(); ++i) columns.insert(i);
  }
  for (const std::string& name : selection.names) {
    const std::vector<int> found = schema.GetAllFieldIndices(name);
    if (found.size() > 1) throw DataError(file + ": column " + name + " is there more than once");
    if (found.empty()) ThrowMissingColumn(file, name, schema.field_names());
    columns.insert(found[0]);
  }
  for (const std::string& name : selection.optional) {
    if (const int found = schema.GetFieldIndex(name); found >= 0) columns.insert(found);
  }
  for (const int i : columns) {
    const arrow::Field& field = *schema.field(i);
    if (!IsSupported(*field.type())) {
      throw DataError(
          file + ": column [" + field.name() + "] with dtype " + field.type()->ToString() + " is not supported now." +
          (field.type()->id() == Type::NA ? " No cell holds a value: state its type in input_fields." : ""));
    }
  }
  return {columns.begin(), columns.end()};
}

std::shared_ptr<arrow::Schema> Project(const arrow::Schema& schema, const std::vector<int>& columns) {
  arrow::FieldVector fields;
  for (const int i : columns) fields.push_back(schema.field(i));
  return arrow::schema(std::move(fields));
}

void CheckSameTypes(const arrow::Schema& first, const std::string& first_file, const arrow::Schema& other,
                    const std::string& other_file) {
  for (int i = 0; i < first.num_fields(); ++i) {
    const arrow::Field& field = *first.field(i);
    const auto same = other.GetFieldByName(field.name());
    if (same == nullptr) throw DataError(other_file + ": column " + field.name() + " is missing");
    if (!SameType(*field.type(), *same->type())) {
      throw DataError(other_file + ": column " + field.name() + " has dtype " + same->type()->ToString() + ", but " +
                      field.type()->ToString() + " in " + first_file);
    }
  }
}

}  // namespace anneal::data
