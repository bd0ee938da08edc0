#include "worker/data/sampler/attribute_columns.h"

#include <arrow/builder.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include "worker/config/error.h"
#include "worker/features/bad_value.h"
#include "worker/features/number_text.h"

namespace anneal::data {
namespace {

using features::Refusal;
using features::Shown;

constexpr std::string_view kListDelimiter = "\x1d";

void Check(const arrow::Status& status) {
  if (!status.ok()) throw Refusal{"cannot be held: " + status.message()};
}

template <typename Builder>
void AppendNumber(arrow::ArrayBuilder& builder, std::string_view text) {
  typename Builder::value_type number{};
  if (!features::ParseNumber(text, &number)) throw Refusal{Shown(text) + " is no " + builder.type()->ToString()};
  Check(static_cast<Builder&>(builder).Append(number));
}

void AppendScalar(arrow::ArrayBuilder& builder, std::string_view text) {
  switch (builder.type()->id()) {
    case arrow::Type::INT32:
      return AppendNumber<arrow::Int32Builder>(builder, text);
    case arrow::Type::INT64:
      return AppendNumber<arrow::Int64Builder>(builder, text);
    case arrow::Type::FLOAT:
      return AppendNumber<arrow::FloatBuilder>(builder, text);
    case arrow::Type::DOUBLE:
      return AppendNumber<arrow::DoubleBuilder>(builder, text);
    default:
      return Check(static_cast<arrow::StringBuilder&>(builder).Append(text));
  }
}

void AppendPair(arrow::MapBuilder& map, std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || text.find(':', colon + 1) != std::string_view::npos) {
    throw Refusal{"Parse KV error: " + Shown(text) + " is not key:value"};
  }
  AppendScalar(*map.key_builder(), text.substr(0, colon));
  AppendScalar(*map.item_builder(), text.substr(colon + 1));
}

void AppendCell(arrow::ArrayBuilder& builder, std::string_view text) {
  if (text.empty()) return Check(builder.AppendNull());
  const auto each_part = [&](auto append) {
    features::SplitText(text, kListDelimiter, [&](std::string_view part) {
      append(part);
      return true;
    });
  };
  if (builder.type()->id() == arrow::Type::MAP) {
    auto& map = static_cast<arrow::MapBuilder&>(builder);
    Check(map.Append());
    each_part([&](std::string_view pair) { AppendPair(map, pair); });
  } else if (builder.type()->id() == arrow::Type::LIST) {
    auto& list = static_cast<arrow::ListBuilder&>(builder);
    Check(list.Append());
    each_part([&](std::string_view element) { AppendScalar(*list.value_builder(), element); });
  } else {
    AppendScalar(builder, text);
  }
}

}  // namespace

AttributeColumns::AttributeColumns(const std::vector<std::string>& attr_fields, std::string delimiter,
                                   const arrow::Schema& input)
    : delimiter_(std::move(delimiter)) {
  for (const std::string& name : attr_fields) {
    Column& column = columns_.emplace_back(Column{name, nullptr});
    const auto field = input.GetFieldByName(name);
    if (field == nullptr) {
      unread_.push_back(name);
      continue;
    }
    const arrow::DataType& type = *field->type();
    if (type.id() == arrow::Type::LIST && type.field(0)->type()->id() == arrow::Type::LIST) {
      throw DataError("column " + name + " has dtype " + type.ToString() + ", which an item's attribute cannot have");
    }
    column.builder = arrow::MakeBuilder(field->type()).ValueOrDie();
  }
}

AttributeColumns::~AttributeColumns() = default;

void AttributeColumns::TellOfUnread(const std::string& field,
                                    const std::function<void(const std::string&)>& warn) const {
  for (const std::string& name : unread_)
    warn(field + ".attr_fields: no feature reads a column " + name + ": the attribute is not used");
}

void AttributeColumns::Append(std::string_view attributes) {
  size_t given = 0;
  features::SplitText(attributes, delimiter_, [&](std::string_view text) {
    if (given < columns_.size() && columns_[given].builder != nullptr) {
      try {
        AppendCell(*columns_[given].builder, text);
      } catch (const Refusal& refusal) {
        throw Refusal{columns_[given].name + ": " + refusal.what};
      }
    }
    ++given;
    return true;
  });
  ++rows_;
  if (given == columns_.size()) return;
  throw Refusal{"holds " + std::to_string(given) + " attributes where attr_fields has " +
                std::to_string(columns_.size()) + " (attr_delimiter " + Shown(delimiter_) + ")"};
}

std::shared_ptr<arrow::RecordBatch> AttributeColumns::Finish() {
  arrow::FieldVector fields;
  arrow::ArrayVector arrays;
  for (Column& column : columns_) {
    if (column.builder == nullptr) continue;
    auto array = column.builder->Finish();
    if (!array.ok()) throw DataError("column " + column.name + ": " + array.status().message());
    fields.push_back(arrow::field(column.name, (*array)->type()));
    arrays.push_back(*array);
  }
  return arrow::RecordBatch::Make(arrow::schema(std::move(fields)), rows_, std::move(arrays));
}

}  // namespace anneal::data
