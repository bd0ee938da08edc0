#include "worker/features/derived/input.h"

#include <arrow/record_batch.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "worker/config/error.h"
#include "worker/features/bad_value.h"
#include "worker/features/dense_value.h"
#include "worker/features/number_text.h"

namespace anneal::features {
namespace {

template <typename Number>
std::string_view Decimal(Number number, TextStore& store) {
  char text[400];  // -5e-324 has 326 characters
  char* end = text;
  if constexpr (std::is_floating_point_v<Number>) {
    end = std::to_chars(text, text + sizeof text, number, std::chars_format::fixed).ptr;
  } else {
    end = std::to_chars(text, text + sizeof text, number).ptr;
  }
  return store.Keep({text, static_cast<size_t>(end - text)});
}

/// Sinks take the values of one cell after the other.
struct TextSink {
  TextInput& input;
  void Put(std::string_view text) { input.texts.push_back(text); }
  template <typename Number>
  void Put(Number number) {
    Put(Decimal(number, input.store));
  }
  void PutMissing() { Put(std::string_view()); }
  template <typename Key, typename Item>
  void PutPair(Key key, Item) {
    Put(key);
  }
  size_t size() const { return input.texts.size(); }
};

struct NumberSink {
  NumberInput& input;
  void Put(std::string_view text) {
    if (text.empty()) return PutMissing();
    input.numbers.push_back(ParseDouble(text));
  }
  template <typename Number>
  void Put(Number number) {
    input.numbers.push_back(static_cast<double>(number));
  }
  void PutMissing() { input.numbers.push_back(std::nan("")); }
  template <typename Key, typename Item>
  void PutPair(Key, Item) {
    throw Refusal{"is a map"};  // CheckNumbers refuses such columns
  }
  size_t size() const { return input.numbers.size(); }
};

struct PairSink {
  PairInput& input;
  const PairOptions& options;

  void Put(std::string_view text) {
    const size_t end = text.find(options.delimiter);
    if (end == std::string_view::npos) {
      if (options.default_item.empty()) throw Refusal{Shown(text) + " is not key" + options.delimiter + "value"};
      return PutPair(text, options.default_item);
    }
    PutPair(text.substr(0, end), text.substr(end + 1));
  }
  template <typename Number>
  void Put(Number number) {
    Put(Decimal(number, input.store));
  }
  void PutMissing() { throw Refusal{"has a null in the list"}; }

  template <typename Key, typename Item>
  void PutPair(Key key, Item item) {
    if constexpr (std::is_same_v<Key, std::string_view>) {
      input.keys.push_back(key);
    } else {
      input.keys.push_back(Decimal(key, input.store));
    }
    if constexpr (std::is_same_v<Item, std::string_view>) {
      input.items.push_back(item);
    } else if (options.text_items) {
      input.items.push_back(Decimal(item, input.store));
    } else {
      input.numbers.push_back(static_cast<double>(item));
    }
  }
  size_t size() const { return input.keys.size(); }
};

/// Puts the cells of rows [begin, begin + count) of a column into a sink.
template <typename Sink>
class Reader {
 public:
  Reader(const InputColumn& input, bool keep_empty, Cells& cells, Sink sink)
      : input_(input), keep_empty_(keep_empty), cells_(cells), sink_(sink) {}

  void Read(const arrow::ArrayData& column, int64_t begin, int64_t count, int64_t& row) {
    switch (column.type->id()) {
      case arrow::Type::LIST: {
        const arrow::ArrayData& child = *column.child_data[0];
        if (child.type->id() == arrow::Type::LIST) {
          VisitCells(*child.child_data[0], [&](const auto& values) { ReadNested(column, values, begin, count, row); });
        } else {
          VisitCells(child, [&](const auto& values) { ReadLists(column, values, begin, count, row); });
        }
        break;
      }
      case arrow::Type::MAP: {
        const arrow::ArrayData& pairs = *column.child_data[0];
        VisitCells(*pairs.child_data[0], [&](const auto& keys) {
          VisitCells(*pairs.child_data[1],
                     [&](const auto& items) { ReadMaps(column, keys, items, begin, count, row); });
        });
        break;
      }
      default:
        VisitCells(column, [&](const auto& values) { ReadOnes(column, values, begin, count, row); });
    }
  }

 private:
  void EndCell() { cells_.EndCell(sink_.size()); }

  void PutJoined(std::string_view text) {
    if (text.empty()) return;
    SplitText(text, input_.separator, [&](std::string_view part) {
      if (!part.empty() || keep_empty_) sink_.Put(part);
      return true;
    });
  }

  /// A value, which as a text may hold several.
  void PutOne(std::string_view text) { PutJoined(text); }
  template <typename Number>
  void PutOne(Number number) {
    sink_.Put(number);
  }

  void PutElements(std::string_view text) {
    int64_t elements = 0;
    if (text.empty()) return;
    SplitText(text, input_.element_separator, [&](std::string_view element) {
      PutJoined(element);
      EndCell();
      return ++elements < input_.most_elements;
    });
  }
  template <typename Number>
  void PutElements(Number number) {
    sink_.Put(number);
    EndCell();
  }

  /// A text or number a row.
  template <typename Values>
  void ReadOnes(const arrow::ArrayData& column, const Values& values, int64_t begin, int64_t count, int64_t& row) {
    const Validity valid(column);
    for (row = 0; row < count; ++row) {
      const int64_t at = begin + row;
      if (input_.sequence) {
        if (valid[at]) PutElements(values[at]);
        cells_.EndRow();
      } else {
        if (valid[at]) PutOne(values[at]);
        EndCell();
      }
    }
  }

  /// The values of a list, each of them one.
  template <typename Values>
  void PutList(const Values& values, const Validity& valid, CellRange range) {
    for (int64_t at = range.begin; at < range.end; ++at) {
      if (!valid[at]) {
        if (!keep_empty_) throw Refusal{"has a null in the list"};
        sink_.PutMissing();
        continue;
      }
      if constexpr (std::is_same_v<typename Values::Value, std::string_view>) {
        if (values[at].empty() && !keep_empty_) continue;
      }
      sink_.Put(values[at]);
    }
  }

  /// A list a row, of values or of elements.
  template <typename Values>
  void ReadLists(const arrow::ArrayData& column, const Values& values, int64_t begin, int64_t count, int64_t& row) {
    const Lists lists(column);
    const Validity valid(*column.child_data[0]);
    for (row = 0; row < count; ++row) {
      CellRange range = lists[begin + row];
      if (!input_.sequence) {
        PutList(values, valid, range);
        EndCell();
        continue;
      }
      range.end = range.begin + std::min(range.size(), input_.most_elements);
      for (int64_t at = range.begin; at < range.end; ++at) {
        if (valid[at]) PutOne(values[at]);
        EndCell();
      }
      cells_.EndRow();
    }
  }

  /// A list of elements a row, each a list of values.
  template <typename Values>
  void ReadNested(const arrow::ArrayData& column, const Values& values, int64_t begin, int64_t count, int64_t& row) {
    const Lists lists(column), elements(*column.child_data[0]);
    const Validity valid(*column.child_data[0]->child_data[0]);
    for (row = 0; row < count; ++row) {
      CellRange range = lists[begin + row];
      range.end = range.begin + std::min(range.size(), input_.most_elements);
      for (int64_t at = range.begin; at < range.end; ++at) {
        PutList(values, valid, elements[at]);
        EndCell();
      }
      cells_.EndRow();
    }
  }

  template <typename Keys, typename Items>
  void ReadMaps(const arrow::ArrayData& column, const Keys& keys, const Items& items, int64_t begin, int64_t count,
                int64_t& row) {
    const Lists maps(column);
    const arrow::ArrayData& pairs = *column.child_data[0];
    const Validity valid(*pairs.child_data[1]);
    for (row = 0; row < count; ++row) {
      const CellRange range = maps[begin + row];
      for (int64_t at = pairs.offset + range.begin; at < pairs.offset + range.end; ++at) {
        if (!valid[at]) throw Refusal{"has a null in the map"};
        sink_.PutPair(keys[at], items[at]);
      }
      EndCell();
    }
  }

  const InputColumn& input_;
  const bool keep_empty_;
  Cells& cells_;
  Sink sink_;
};

template <typename Sink>
void Read(const InputColumn& input, const DerivationRows& rows, bool keep_empty, Cells& cells, Sink sink) {
  Reader<Sink> reader(input, keep_empty, cells, sink);
  int64_t row = 0;
  try {
    if (input.literal) {
      reader.Read(*input.literal, 0, 1, row);
    } else if (input.derived) {
      reader.Read(*rows.derived[input.index], 0, rows.slice.count, row);
    } else {
      reader.Read(*rows.slice.rows->column_data(input.index), rows.slice.begin, rows.slice.count, row);
    }
  } catch (const Refusal& refusal) {
    ThrowBadValue(rows.slice, row, input.name, input.feature, refusal.what);
  }
}

/// Whether the column is one of what InputColumn lists.
void CheckType(const InputColumn& input, bool maps) {
  const arrow::DataType& type = *input.type;
  bool good = false;
  if (type.id() == arrow::Type::LIST) {
    const arrow::DataType& value = *type.field(0)->type();
    const bool nested = input.sequence && value.id() == arrow::Type::LIST;
    good = IsNumberOrText(nested ? *value.field(0)->type() : value);
  } else if (type.id() == arrow::Type::MAP) {
    const auto& map = static_cast<const arrow::MapType&>(type);
    good = maps && !input.sequence && IsNumberOrText(*map.key_type()) && IsNumberOrText(*map.item_type());
  } else {
    good = IsNumberOrText(type);
  }
  if (good) return;
  throw DataError("feature " + input.feature + ": column " + input.name + " has dtype " + type.ToString() +
                  ", only support str|int|float and list" + (input.sequence ? " or list<list>" : "") +
                  (maps && !input.sequence ? " or map" : "") + " of these" +
                  (input.sequence ? "" : "; a sequence has to be named in sequence_fields"));
}

}  // namespace

double ParseDouble(std::string_view text) {
  double value = 0;
  if (!ParseNumber(text, &value)) throw Refusal{Shown(text) + " is not a number"};
  return value;
}

std::string_view TextStore::Keep(std::string_view text) {
  constexpr size_t kBlock = 1 << 14;
  if (text.size() > size_ - used_) {
    size_ = std::max(kBlock, text.size());
    used_ = 0;
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(size_));
  }
  if (text.empty()) return {};
  char* at = blocks_.back().get() + used_;
  std::memcpy(at, text.data(), text.size());
  used_ += text.size();
  return {at, text.size()};
}

double PairInput::Number(int64_t pair) const { return numbers.empty() ? ParseDouble(items[pair]) : numbers[pair]; }

void CheckTexts(const InputColumn& input) { CheckType(input, true); }
void CheckNumbers(const InputColumn& input) { CheckType(input, false); }
void CheckPairs(const InputColumn& input) { CheckType(input, true); }

TextInput ReadTexts(const InputColumn& input, const DerivationRows& rows, const ValueOptions& options) {
  TextInput result(input);
  Read(input, rows, options.keep_empty, result, TextSink{result});
  return result;
}

NumberInput ReadNumbers(const InputColumn& input, const DerivationRows& rows, const ValueOptions& options) {
  NumberInput result(input);
  Read(input, rows, options.keep_empty, result, NumberSink{result});
  return result;
}

PairInput ReadPairs(const InputColumn& input, const DerivationRows& rows, const PairOptions& options) {
  PairInput result(input);
  Read(input, rows, false, result, PairSink{result, options});
  return result;
}

}  // namespace anneal::features
