// Inputs of a derivation, read from columns of any type that they can have.
#pragma once

#include <arrow/array/data.h>
#include <arrow/type.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "worker/data/row_slice.h"
#include "worker/features/arrow_column.h"

namespace anneal::features {

/// One input, compiled. Its column may hold strings, int32, int64, float or double, or lists of these; a sequence's
/// lists of lists; others maps too.
struct InputColumn {
  std::string feature, name;  ///< for messages
  std::shared_ptr<arrow::DataType> type;
  int index = -1;                             ///< of the record batches' columns, or of those derived before
  bool derived = false;                       ///< which of the two
  std::shared_ptr<arrow::ArrayData> literal;  ///< the one cell that every row has, of a `const:` input; else null
  bool sequence = false;                      ///< a row holds elements
  std::string separator = "\x1d";             ///< of several values in one string
  std::string element_separator = ";";        ///< of a sequence: of the elements in one string
  int64_t most_elements = std::numeric_limits<int64_t>::max();  ///< kept of a row, the first ones
};

/// What a derivation reads: rows of a file, and the columns derived from them so far (those start at the first row).
struct DerivationRows {
  const data::RowSlice& slice;
  const std::vector<std::shared_ptr<arrow::ArrayData>>& derived;
};

/// Which values belong to what. A cell holds any number of values, none where there is nothing or an empty text; there
/// is a cell for each row, for each element of a sequence, or one for all rows (a literal).
class Cells {
 public:
  enum class Of { kRows, kElements, kLiteral };

  explicit Cells(const InputColumn& input)
      : of_(input.literal    ? Of::kLiteral
            : input.sequence ? Of::kElements
                             : Of::kRows) {}

  bool sequence() const { return of_ == Of::kElements; }
  /// Elements of a row; 0: it is missing. Only of sequences.
  int64_t Elements(int64_t row) const { return rows_[row + 1] - rows_[row]; }
  /// The cell that an element of a row reads: the same for all elements where the input is no sequence.
  int64_t At(int64_t row, int64_t element) const {
    return of_ == Of::kElements ? rows_[row] + element : of_ == Of::kRows ? row : 0;
  }
  /// Positions of the cell's values.
  CellRange operator[](int64_t cell) const { return {cells_[cell], cells_[cell + 1]}; }

  void EndCell(size_t values) { cells_.push_back(static_cast<int64_t>(values)); }
  void EndRow() {
    if (sequence()) rows_.push_back(static_cast<int64_t>(cells_.size()) - 1);
  }

 private:
  Of of_;
  std::vector<int64_t> rows_ = {0};   ///< of sequences: first cell of each row
  std::vector<int64_t> cells_ = {0};  ///< first value of each cell
};

/// Texts that are made here, at addresses that last.
class TextStore {
 public:
  std::string_view Keep(std::string_view text);

 private:
  std::vector<std::unique_ptr<char[]>> blocks_;
  size_t used_ = 0, size_ = 0;  ///< of the last block
};

/// How an input is read as texts or numbers.
struct ValueOptions {
  /// An empty part of a text and a null in a list are values (an empty text, NaN), because places count; otherwise the
  /// first is passed over and the second an error.
  bool keep_empty = false;
};

/// Values as texts. Numbers are written in decimal without an exponent, the shortest that reads back the same; of maps
/// the keys.
struct TextInput : Cells {
  using Cells::Cells;
  std::vector<std::string_view> texts;
  TextStore store;
};

/// Values as numbers. Text that is none is an error. No maps.
struct NumberInput : Cells {
  using Cells::Cells;
  std::vector<double> numbers;
};

/// Values as pairs of a key and an item: maps, texts "key:item" (cut at the first delimiter), and, where an item has a
/// default, values that are a key alone. Items are texts, or numbers where the map's are.
struct PairInput : Cells {
  using Cells::Cells;
  std::vector<std::string_view> keys;
  std::vector<std::string_view> items;  ///< empty when `numbers` is not
  std::vector<double> numbers;
  TextStore store;

  /// Throws a Refusal for an item that is none.
  double Number(int64_t pair) const;
};

struct PairOptions {
  char delimiter = ':';           ///< between key and item in a text
  std::string_view default_item;  ///< of a key alone; empty: that is an error
  bool text_items = false;        ///< numbers in a map are written as texts
};

/// Of a number in text. Throws a Refusal for any other.
double ParseDouble(std::string_view text);

/// Throw DataError for a column whose type cannot be read as that.
void CheckTexts(const InputColumn& input);
void CheckNumbers(const InputColumn& input);
void CheckPairs(const InputColumn& input);

/// Throw DataError naming file, row, column and text of a value that cannot be read.
TextInput ReadTexts(const InputColumn& input, const DerivationRows& rows, const ValueOptions& options = {});
NumberInput ReadNumbers(const InputColumn& input, const DerivationRows& rows, const ValueOptions& options = {});
PairInput ReadPairs(const InputColumn& input, const DerivationRows& rows, const PairOptions& options = {});

}  // namespace anneal::features
