#include "worker/features/feature_program.h"

#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "worker/config/error.h"
#include "worker/features/feature_config.h"
#include "worker/features/non_finite.h"

namespace anneal::features {
namespace {

using tzrec::protos::DataConfig;
using tzrec::protos::FgMode;
using tzrec::protos::IdFeature;
using tzrec::protos::RawFeature;

/// What all compile functions need to know.
struct Compiler {
  const DataConfig& data_config;
  FgMode mode;

  bool encoded() const { return mode == tzrec::protos::FG_NONE; }
  /// FG_BUCKETIZE reads values that a normalizer has seen already.
  bool normalizes() const { return mode == tzrec::protos::FG_NORMAL || mode == tzrec::protos::FG_DAG; }

  std::string Separator(const std::string& of_feature, const Feature& feature) const {
    const std::string& separator = encoded() ? data_config.fg_encoded_multival_sep() : of_feature;
    if (separator.empty()) {
      throw ConfigError("feature " + feature.name + ": " + (encoded() ? "fg_encoded_multival_sep" : "separator") +
                        " is empty");
    }
    return separator;
  }
};

/// The `const:` literal of an id_feature or raw_feature, which FG_DAG reads as the value of every row; null when its
/// values are in a column.
const std::string* Literal(const Feature& feature, const SourceColumn& column) {
  return column.index < 0 ? &feature.sides[0].name : nullptr;
}

IdEncoder Encoder(const IdFeature& config, const Feature& feature) {
  if (config.has_num_buckets()) return DirectId();
  if (!config.has_hash_bucket_size()) return WordId{std::make_shared<Vocabulary>(Vocabulary::FromConfig(config))};
  const std::string& type = config.fg_value_type();
  const bool integer = type == "int32" || type == "int64";
  if (!integer && !type.empty() && type != "string") {
    throw ConfigError("feature " + feature.name + ": fg_value_type \"" + type +
                      "\" with hash_bucket_size is not supported yet (supported: string, int32, int64)");
  }
  const char* farm = std::getenv("USE_FARM_HASH_TO_BUCKETIZE");
  if (farm != nullptr && std::string_view(farm) == "true") return FarmId{config.hash_bucket_size(), integer};
  return MurmurId{config.hash_bucket_size(), integer};
}

/// What ops of every kind know: names, column.
template <typename Op>
Op Start(const Feature& feature, const SourceColumn& column) {
  Op op;
  op.feature = feature.name;
  op.column = column.name;
  op.column_index = column.index;
  return op;
}

/// What ops of sequences know.
template <typename Op>
void SetElements(const Compiler& compiler, const Feature& feature, Op& op) {
  op.element_separator = feature.sequence_delim;
  op.skip_empty = !compiler.encoded();
  if (!compiler.encoded() && feature.sequence_length > 0) op.most_elements = feature.sequence_length;
}

SparseOp StartSparse(const Compiler& compiler, const Feature& feature, const SourceColumn& column,
                     const std::string& separator) {
  auto op = Start<SparseOp>(feature, column);
  op.separator = compiler.Separator(separator, feature);
  op.skip_empty = !compiler.encoded();
  if (feature.sequence) {
    op.sequence = true;
    op.exactly = 1;
    SetElements(compiler, feature, op);
  }
  return op;
}

SparseOp CompileId(const Compiler& compiler, const Feature& feature, const SourceColumn& column,
                   const IdFeature& config) {
  SparseOp op = StartSparse(compiler, feature, column, config.separator());
  if (compiler.encoded()) {
    op.SetDefault(config.fg_encoded_default_value());
    // From here on elements are "id:weight"; the default above is ids only and weighs 1.
    op.weighted = op.weight_needed = feature.weighted;
  } else {
    op.weighted = feature.weighted;
    op.encoder = Encoder(config, feature);
    if (feature.value_dim > 0) op.most = feature.value_dim;
    const std::string* literal = Literal(feature, column);
    op.SetDefault(literal ? *literal : config.default_value());
  }
  return op;
}

SparseOp CompileBuckets(const Compiler& compiler, const Feature& feature, const SourceColumn& column,
                        const RawFeature& config) {
  SparseOp op = StartSparse(compiler, feature, column, config.separator());
  if (compiler.encoded()) {
    op.SetDefault(config.fg_encoded_default_value());
    return op;
  }
  BucketId bucket{{config.boundaries().begin(), config.boundaries().end()}, {}};
  if (feature.value_dim == 1) {
    op.most = 1;
  } else {
    op.exactly = feature.value_dim;  // 0: any number
  }
  op.encoder = bucket;
  const std::string* literal = Literal(feature, column);
  op.SetDefault(literal ? *literal : config.default_value());
  if (compiler.normalizes()) bucket.normalizer = Normalizer::FromText(config.normalizer(), feature.name);
  op.encoder = bucket;
  return op;
}

DenseValue CompileValue(const Compiler& compiler, const Feature& feature, const SourceColumn& column,
                        const RawFeature& config) {
  DenseValue value;
  value.dim = feature.value_dim;
  value.separator = compiler.Separator(config.separator(), feature);
  if (compiler.encoded()) {
    if (!config.fg_encoded_default_value().empty()) value.SetDefaults(config.fg_encoded_default_value(), feature.name);
    return value;
  }
  value.first_only = feature.value_dim == 1;
  if (compiler.normalizes()) value.normalizer = Normalizer::FromText(config.normalizer(), feature.name);
  if (const std::string* literal = Literal(feature, column)) {
    value.SetDefaults(*literal, feature.name, true);
  } else {
    value.SetDefaults(config.default_value().empty() ? "0" : config.default_value(), feature.name);
  }
  return value;
}

/// The value of another feature is of the config's making, no file is to blame.
template <typename Op>
void CheckDerived(const Op& op, const arrow::DataType& type) {
  try {
    op.CheckType(type);
  } catch (const DataError&) {
    throw ConfigError("feature " + op.feature + ": the value of " + op.column + " is " + type.ToString() +
                      ", which it cannot read");
  }
}

}  // namespace

FeatureProgram::FeatureProgram(const FeatureSet& set, const tzrec::protos::EasyRecConfig& config,
                               const arrow::Schema& schema)
    : FeatureProgram(set, config, schema, [](const Feature&) { return true; }) {}

FeatureProgram::FeatureProgram(const FeatureSet& set, const tzrec::protos::EasyRecConfig& config,
                               const arrow::Schema& schema, const std::function<bool(const Feature&)>& reads)
    : weighted_(set.weighted()), dense_width_(set.dense_width()) {
  ColumnCompiler columns(set, config, schema);
  const Compiler compiler{config.data_config(), set.fg_mode()};
  const auto add = [](auto& steps, auto op, const SourceColumn& column) {
    if (column.derived) {
      CheckDerived(op, *column.type);
    } else if (column.type) {
      op.CheckType(*column.type);
    }
    steps.push_back({std::move(op), column.derived});
  };
  for (const Feature* feature : set.sparse()) {
    if (!reads(*feature)) {
      sparse_.emplace_back();  // no column and no default
      continue;
    }
    const SourceColumn column = columns.Of(*feature);
    add(sparse_,
        feature->kind == Kind::kId ? CompileId(compiler, *feature, column, IdConfig(config, *feature))
                                   : CompileBuckets(compiler, *feature, column, RawConfig(config, *feature)),
        column);
  }
  for (const Feature* feature : set.dense()) {
    DenseOp op;
    SourceColumn column;
    if (reads(*feature)) {
      column = columns.Of(*feature);
      op = Start<DenseOp>(*feature, column);
      op.value = CompileValue(compiler, *feature, column, RawConfig(config, *feature));
    } else {
      op.value.defaults.assign(feature->value_dim, 0.0f);
    }
    op.dense_column = feature->dense_column;
    add(dense_, std::move(op), column);
  }
  for (const Feature* feature : set.dense_sequences()) {
    if (!reads(*feature)) {
      dense_sequences_.emplace_back();  // no column and no default
      continue;
    }
    const SourceColumn column = columns.Of(*feature);
    auto op = Start<DenseSequenceOp>(*feature, column);
    op.value = CompileValue(compiler, *feature, column, RawConfig(config, *feature));
    SetElements(compiler, *feature, op);
    add(dense_sequences_, std::move(op), column);
  }
  derived_ = std::move(columns).Take();
}

void FeatureProgram::Run(std::span<const data::RowSlice> slices, data::Batch& out) const {
  int64_t rows = 0;
  for (const data::RowSlice& slice : slices) rows += slice.count;
  out.rows = rows;
  out.sparse.values.clear();
  out.sparse.weights.clear();
  out.sparse.offsets.resize(sparse_.size() * rows + 1);
  out.sparse.offsets[0] = 0;
  out.dense.resize(rows * dense_width_);

  std::vector<data::RowSlice> derived(slices.size());
  if (!derived_.empty()) {
    std::transform(slices.begin(), slices.end(), derived.begin(),
                   [&](const auto& slice) { return derived_.Run(slice); });
  }
  int64_t* ends = out.sparse.offsets.data() + 1;
  for (const auto& step : sparse_) {
    for (size_t i = 0; i < slices.size(); ++i) {
      step.op.Run(step.From(slices[i], derived[i]), weighted_, out.sparse, ends);
      ends += slices[i].count;
    }
  }
  for (const auto& step : dense_) {
    float* at = out.dense.data();
    for (size_t i = 0; i < slices.size(); ++i) {
      step.op.Run(step.From(slices[i], derived[i]), at, dense_width_);
      at += slices[i].count * dense_width_;
    }
  }
  if (AnyNonFinite(out.dense)) {
    for (const auto& [op, derived] : dense_) {
      WarnOfNonFinite(op.feature, slices, out.dense.data() + op.dense_column, op.value.dim, dense_width_);
    }
  }
  out.dense_sequences.resize(dense_sequences_.size());
  for (size_t i = 0; i < dense_sequences_.size(); ++i) {
    data::DenseSequence& sequence = out.dense_sequences[i];
    sequence.values.clear();
    sequence.offsets.resize(rows + 1);
    sequence.offsets[0] = 0;
    ends = sequence.offsets.data() + 1;
    const auto& step = dense_sequences_[i];
    for (size_t j = 0; j < slices.size(); ++j) {
      step.op.Run(step.From(slices[j], derived[j]), sequence.values, ends);
      ends += slices[j].count;
    }
    if (AnyNonFinite(sequence.values)) WarnOfNonFinite(step.op.feature, slices, sequence, step.op.value.dim);
  }
}

void FeatureProgram::Run(const std::shared_ptr<arrow::RecordBatch>& rows, data::Batch& out) const {
  data::RowSlice slice;
  slice.rows = rows;
  slice.count = rows->num_rows();
  Run(std::span<const data::RowSlice>(&slice, 1), out);
}

}  // namespace anneal::features
