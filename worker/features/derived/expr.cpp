#include <cstdlib>

#include "worker/config/feature_kinds.h"
#include "worker/features/derived/kinds.h"
#include "worker/features/formulas/expression.h"
#include "worker/features/string_hash.h"

namespace anneal::features {
namespace {

using tzrec::protos::ExprFeature;

/// parity/features.md 4.12: an expression of the inputs, whose names are its variables. Where one of them is missing,
/// so is the value.
class Expr : public Derivation {
 public:
  Expr(const ExprFeature& config, const Feature& feature, Inputs inputs)
      : Derivation(feature, std::move(inputs), arrow::float32()),
        expression_(config.expression(), config::VariablesOf(config), "feature " + feature.name + ": expression ") {
    if (config.has_fill_missing()) expression_.fill = config.fill_missing();
    const char* seed = std::getenv("PYTHON_RANDOM_SEED");
    expression_.seed = MurmurHash64A(feature.name + "\n" + (seed == nullptr ? "" : seed));
    for (const InputColumn& input : inputs_) CheckNumbers(input);
  }

  std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const override {
    std::vector<NumberInput> values;
    values.reserve(inputs_.size());
    std::vector<const Cells*> cells_of;
    ValueOptions options;
    options.keep_empty = true;
    for (const InputColumn& input : inputs_)
      cells_of.push_back(&values.emplace_back(ReadNumbers(input, rows, options)));
    NumberColumn<float> out(sequence_);
    if (expression_.random() || !AtOnce(rows, values, cells_of, out)) OneByOne(rows, values, cells_of, out);
    return out.Finish();
  }

 private:
  /// Of cells that are there, each one value.
  struct Operands {
    std::vector<std::vector<double>> columns;
    int64_t count = 0;
    void EndCell() {}
    void EndRow() {}
  };

  /// What EachCell writes to, counting the rows.
  struct CountedRows {
    NumberColumn<float>& out;
    int64_t row = 0, element = 0;
    void EndCell() {
      out.EndCell();
      ++element;
    }
    void EndRow() {
      out.EndRow();
      ++row;
      element = 0;
    }
  };

  static bool AllThere(const std::vector<NumberInput>& values, const std::vector<int64_t>& cells) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i][cells[i]].size() == 0) return false;
    }
    return true;
  }

  /// Computes all rows together; false, and nothing is done, when a cell has several values.
  bool AtOnce(const DerivationRows& rows, const std::vector<NumberInput>& values,
              const std::vector<const Cells*>& cells_of, NumberColumn<float>& out) const {
    Operands operands;
    operands.columns.resize(values.size());
    bool single = true;
    EachCell(rows, cells_of, operands, [&](const std::vector<int64_t>& cells) {
      if (!single || !AllThere(values, cells)) return;
      for (size_t i = 0; i < values.size(); ++i) {
        const CellRange range = values[i][cells[i]];
        single = single && range.size() == 1;
        operands.columns[i].push_back(values[i].numbers[range.begin]);
      }
      ++operands.count;
    });
    if (!single) return false;
    std::vector<const double*> columns;
    for (const auto& column : operands.columns) columns.push_back(column.data());
    std::vector<float> results(operands.count);
    Expression::Scratch scratch;
    expression_.EvaluateRows(columns, operands.count, 0, results.data(), 1, scratch);
    auto result = results.begin();
    EachCell(rows, cells_of, out, [&](const std::vector<int64_t>& cells) {
      if (AllThere(values, cells)) out.Put(*result++);
    });
    return true;
  }

  void OneByOne(const DerivationRows& rows, const std::vector<NumberInput>& values,
                const std::vector<const Cells*>& cells_of, NumberColumn<float>& out) const {
    Expression::Scratch scratch;
    std::vector<Values> vectors(values.size());
    CountedRows counted{out};
    EachCell(rows, cells_of, counted, [&](const std::vector<int64_t>& cells) {
      if (!AllThere(values, cells)) return;
      for (size_t i = 0; i < values.size(); ++i) {
        const CellRange range = values[i][cells[i]];
        vectors[i] = {values[i].numbers.data() + range.begin, range.size()};
      }
      // Elements of sequences draw numbers of their own.
      const int64_t row = rows.slice.position + counted.row;
      const Values result = expression_.EvaluateRow(vectors, sequence_ ? (row << 16) + counted.element : row, scratch);
      for (int64_t i = 0; i < result.size; ++i) out.Put(static_cast<float>(result.data[i]));
    });
  }

  Expression expression_;
};

}  // namespace

std::unique_ptr<Derivation> MakeDerivation(const ExprFeature& config, const Feature& feature, Inputs inputs) {
  return std::make_unique<Expr>(config, feature, std::move(inputs));
}

}  // namespace anneal::features
