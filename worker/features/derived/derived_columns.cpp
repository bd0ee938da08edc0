#include "worker/features/derived/derived_columns.h"

#include <arrow/record_batch.h>

#include "worker/config/error.h"
#include "worker/features/derived/feature_value.h"
#include "worker/features/derived/kinds.h"
#include "worker/features/feature_config.h"

namespace anneal::features {
namespace {

/// The text is what every row has: a column of one cell.
void SetLiteral(const std::string& text, InputColumn& column) {
  std::vector<int32_t> offsets = {0, static_cast<int32_t>(text.size())};
  column.type = arrow::utf8();
  column.literal = arrow::ArrayData::Make(
      column.type, 1, {nullptr, arrow::Buffer::FromVector(std::move(offsets)), arrow::Buffer::FromString(text)}, 0);
}

/// `source` as `feature` reads it.
InputColumn Reading(const SourceColumn& source, const Feature& feature, const std::string& separator) {
  if (separator.empty()) throw ConfigError("feature " + feature.name + ": separator is empty");
  InputColumn column;
  column.feature = feature.name;
  column.name = source.name;
  column.type = source.type;
  column.index = source.index;
  column.derived = source.derived;
  column.separator = separator;
  column.element_separator = feature.sequence_delim;
  if (feature.sequence_length > 0) column.most_elements = feature.sequence_length;
  return column;
}

}  // namespace

data::RowSlice DerivedColumns::Run(const data::RowSlice& slice) const {
  std::vector<std::shared_ptr<arrow::ArrayData>> columns;
  columns.reserve(derivations_.size());
  for (const auto& derivation : derivations_) columns.push_back(derivation->Run({slice, columns}));
  data::RowSlice result = slice;
  result.rows = arrow::RecordBatch::Make(schema_, slice.count, std::move(columns));
  result.begin = 0;
  return result;
}

SourceColumn ColumnCompiler::Of(const Feature& feature) {
  if (set_.reads_own_columns()) return DataColumn(feature.name, feature.name);
  if (const auto known = derived_.find(feature.name); known != derived_.end()) {
    return {feature.sides[0].name, known->second, true, columns_.derivations_[known->second]->type()};
  }
  SourceColumn column;
  config::VisitFeature(ConfigOf(config_, feature), [&](const auto& config) {
    if constexpr (Derived<std::decay_t<decltype(config)>>) {
      Inputs inputs;
      for (size_t i = 0; i < feature.sides.size(); ++i) inputs.push_back(Input(feature, i, config.separator()));
      const int index = Add(MakeDerivation(config, feature, std::move(inputs)));
      derived_.emplace(feature.name, index);
      column = {feature.sides[0].name, index, true, columns_.derivations_[index]->type()};
    } else {
      column = SourceOf(feature, feature.sides.at(0));
    }
  });
  return column;
}

SourceColumn ColumnCompiler::DataColumn(const std::string& feature, const std::string& name) const {
  const std::vector<int> found = schema_.GetAllFieldIndices(name);
  if (found.size() != 1) {
    throw DataError("feature " + feature + ": column " + name + " is " +
                    (found.empty() ? "missing" : "there more than once"));
  }
  return {name, found[0], false, schema_.field(found[0])->type()};
}

SourceColumn ColumnCompiler::SourceOf(const Feature& feature, const FeatureInput& input) {
  if (set_.fg_mode() == tzrec::protos::FG_DAG) {
    if (input.side == "const") return {.name = "const"};
    if (input.side == "feature") return ValueOf(*set_.FindAny(input.name));
  }
  return DataColumn(feature.name, input.name);
}

SourceColumn ColumnCompiler::ValueOf(const Feature& feature) {
  auto known = values_.find(feature.name);
  if (known == values_.end()) {
    const config::Encoding encoding = EncodingOf(config_, feature);
    const std::string separator = std::visit([](const auto& config) { return config.separator(); }, encoding);
    InputColumn input = Reading(Of(feature), feature, separator);
    input.sequence = feature.sequence;
    if (input.index < 0) SetLiteral(feature.sides[0].name, input);
    known = values_.emplace(feature.name, Add(MakeFeatureValue(encoding, feature, std::move(input)))).first;
  }
  return {feature.name, known->second, true, columns_.derivations_[known->second]->type()};
}

InputColumn ColumnCompiler::Input(const Feature& feature, size_t input, const std::string& separator) {
  const FeatureInput& side = feature.sides[input];
  InputColumn column = Reading(SourceOf(feature, side), feature, separator);
  column.sequence = side.sequence;
  if (column.index < 0) SetLiteral(side.name, column);
  return column;
}

int ColumnCompiler::Add(std::unique_ptr<Derivation> derivation) {
  const int index = static_cast<int>(columns_.derivations_.size());
  columns_.schema_ =
      columns_.schema_->AddField(index, arrow::field(std::to_string(index), derivation->type())).ValueOrDie();
  columns_.derivations_.push_back(std::move(derivation));
  return index;
}

}  // namespace anneal::features
