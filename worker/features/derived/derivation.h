// The value of a feature with several inputs, or that is computed: columns of a slice of rows in, one column out, which
// the ops encode like one of the file (hash, vocabulary, buckets, normalizer, defaults).
//
// Add a kind: its class in a file of this room, a MakeDerivation of kinds.h, and what worker/config/feature_kinds.h
// asks for: InputsOf (the inputs, in the order of the class's `inputs`) and EncodingOf (the id_feature or raw_feature
// that encodes the column). Then FeatureSet, FeatureProgram, rules, exports and plans know it; fg_json.cpp wants its
// entry, feature_rules.cpp the rules of its own fields.
#pragma once

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "worker/features/bad_value.h"
#include "worker/features/derived/column_builder.h"
#include "worker/features/derived/input.h"
#include "worker/features/feature_set.h"

namespace anneal::features {

/// Compiled once; Run only reads it, so that all reader threads share one.
class Derivation {
 public:
  virtual ~Derivation() = default;
  Derivation(const Derivation&) = delete;
  Derivation& operator=(const Derivation&) = delete;

  /// Of the column: list<T> with a cell a row, of a sequence list<list<T>> with a cell an element (column_builder.h).
  const std::shared_ptr<arrow::DataType>& type() const { return type_; }

  /// Throws DataError naming file, row, column and text of a value that cannot be read.
  virtual std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const = 0;

 protected:
  /// `value` is the type of a value.
  Derivation(const Feature& feature, std::vector<InputColumn> inputs, std::shared_ptr<arrow::DataType> value)
      : feature_(feature.name),
        sequence_(feature.sequence),
        most_(feature.value_dim > 0 ? feature.value_dim : std::numeric_limits<int64_t>::max()),
        inputs_(std::move(inputs)),
        type_(DerivedType(std::move(value), feature.sequence)) {}

  /// Calls each(cells) for every row, or every element of a sequence, with the cell of each input there; what it puts
  /// into `out` until it returns is that cell's value. Where it returns a bool, false leaves the element out. A row in
  /// which a sequence has no elements has none. A Refusal from `each` names the first input.
  template <typename Column, typename Each>
  void EachCell(const DerivationRows& rows, std::span<const Cells* const> inputs, Column& out, Each&& each) const;

  const std::string feature_;
  const bool sequence_;
  const int64_t most_;  ///< values that are kept of a cell, by value_dim, for kinds that may have more
  const std::vector<InputColumn> inputs_;

 private:
  /// Elements of the row that the sequences among the inputs have; throws a Refusal unless all have as many.
  int64_t Elements(std::span<const Cells* const> inputs, int64_t row) const;

  const std::shared_ptr<arrow::DataType> type_;
};

template <typename Column, typename Each>
void Derivation::EachCell(const DerivationRows& rows, std::span<const Cells* const> inputs, Column& out,
                          Each&& each) const {
  std::vector<int64_t> cells(inputs.size());
  int64_t row = 0;
  try {
    for (row = 0; row < rows.slice.count; ++row) {
      const int64_t elements = sequence_ ? Elements(inputs, row) : 1;
      for (int64_t element = 0; element < elements; ++element) {
        for (size_t i = 0; i < inputs.size(); ++i) cells[i] = inputs[i]->At(row, element);
        if constexpr (std::is_same_v<decltype(each(cells)), bool>) {
          if (each(cells)) out.EndCell();
        } else {
          each(cells);
          out.EndCell();
        }
      }
      out.EndRow();
    }
  } catch (const Refusal& refusal) {
    ThrowBadValue(rows.slice, row, inputs_[0].name, feature_, refusal.what);
  }
}

}  // namespace anneal::features
