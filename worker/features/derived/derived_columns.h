// The columns that features read: those of the data, and those derived from them and from each other.
#pragma once

#include <arrow/type.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "tzrec/pipeline.pb.h"
#include "worker/data/row_slice.h"
#include "worker/features/derived/derivation.h"
#include "worker/features/feature_set.h"

namespace anneal::features {

/// Where a feature's op finds its values.
struct SourceColumn {
  std::string name;  ///< for messages
  int index = -1;    ///< -1: the feature has a literal
  bool derived = false;
  std::shared_ptr<arrow::DataType> type;  ///< null of a literal
};

/// Derivations in an order in which each comes after those that it reads. Compiled once; Run only reads it.
class DerivedColumns {
 public:
  bool empty() const { return derivations_.empty(); }

  /// The derived columns of the slice's rows, as a slice of them with the same place in the same file. Throws
  /// DataError.
  data::RowSlice Run(const data::RowSlice& slice) const;

 private:
  friend class ColumnCompiler;
  std::vector<std::unique_ptr<Derivation>> derivations_;
  std::shared_ptr<arrow::Schema> schema_ = arrow::schema({});
};

/// Finds a feature's column; what it takes to derive it is added once, however many features read it.
class ColumnCompiler {
 public:
  ColumnCompiler(const FeatureSet& set, const tzrec::protos::EasyRecConfig& config, const arrow::Schema& schema)
      : set_(set), config_(config), schema_(schema) {}

  /// Throws ConfigError for a fault of the config, DataError for a column that is missing or of the wrong type.
  SourceColumn Of(const Feature& feature);

  DerivedColumns Take() && { return std::move(columns_); }

 private:
  SourceColumn DataColumn(const std::string& feature, const std::string& name) const;
  /// What an input of `feature` is read from.
  SourceColumn SourceOf(const Feature& feature, const FeatureInput& input);
  SourceColumn ValueOf(const Feature& feature);
  InputColumn Input(const Feature& feature, size_t input, const std::string& separator);
  int Add(std::unique_ptr<Derivation> derivation);

  const FeatureSet& set_;
  const tzrec::protos::EasyRecConfig& config_;
  const arrow::Schema& schema_;
  DerivedColumns columns_;
  std::unordered_map<std::string, int> derived_, values_;  ///< by feature: what it derives, what others read of it
};

}  // namespace anneal::features
