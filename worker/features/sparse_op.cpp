#include "worker/features/sparse_op.h"

#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <type_traits>

#include "worker/config/error.h"
#include "worker/features/arrow_column.h"
#include "worker/features/bad_value.h"

namespace anneal::features {
namespace {

using data::Buffer;
using data::RowSlice;

/// Appends the values of one row, or of one element, after the other. Encode is known at compile time: nothing virtual
/// per value.
template <typename Encode>
class Emitter {
 public:
  Emitter(const SparseOp& op, const Encode& encode, Buffer<int64_t>& values, Buffer<float>* weights)
      : op_(op), encode_(encode), values_(values), weights_(weights) {}

  void Default() {
    values_.insert(values_.end(), op_.default_ids.begin(), op_.default_ids.end());
    if (weights_ != nullptr) weights_->insert(weights_->end(), op_.default_weights.begin(), op_.default_weights.end());
  }

  template <typename Value>
  void Put(Value value, float weight) {
    int64_t id = 0;
    if constexpr (std::is_floating_point_v<Value> && !std::is_same_v<Encode, BucketId>) {
      throw Refusal{"is not an integer"};  // CheckType refuses such columns
    } else {
      if (!encode_(value, &id)) [[unlikely]] {
        if constexpr (std::is_same_v<Value, std::string_view>) {
          throw Refusal{Shown(value) + " " + Encode::kExpected};
        } else {
          throw Refusal{std::to_string(value) + " " + Encode::kExpected};
        }
      }
      values_.push_back(id);
      if (weights_ != nullptr) weights_->push_back(weight);
    }
  }

  void Put(std::string_view text) {
    if (!op_.weighted) return Put(text, 1.0f);
    const size_t colon = text.rfind(':');
    if (colon == std::string_view::npos) {
      if (op_.weight_needed) throw Refusal{Shown(text) + " is not id:weight"};
      return Put(text, 1.0f);
    }
    float weight = 0;
    if (!ParseNumber(text.substr(colon + 1), &weight)) throw Refusal{Shown(text) + " is not id:weight"};
    Put(text.substr(0, colon), weight);
  }

  /// Several values in one string.
  void PutJoined(std::string_view text) {
    int64_t kept = 0;
    SplitText(text, op_.separator, [&](std::string_view part) {
      if (part.empty() && op_.skip_empty) return true;
      Put(part);
      return ++kept < op_.most;
    });
    if (kept == 0) return Default();
    if (!RightCount(kept)) throw Refusal{Shown(text) + " " + HasCount(kept)};
  }

  /// The cell of a row.
  void PutCell(std::string_view text) {
    if (text.empty()) return Default();
    if (!op_.sequence) return PutJoined(text);
    int64_t elements = 0;
    SplitText(text, op_.element_separator, [&](std::string_view element) {
      PutJoined(element);
      return ++elements < op_.most_elements;
    });
  }
  template <typename Number>
  void PutCell(Number value) {
    Put(value, 1.0f);
  }

  /// Several values in a list.
  template <typename Cells>
  void PutList(const Cells& values, const Validity& valid, CellRange range) {
    int64_t kept = 0;
    for (int64_t at = range.begin; at < range.end && kept < op_.most; ++at) {
      if (!valid[at]) throw Refusal{"has a null in the list"};
      if constexpr (std::is_same_v<typename Cells::Value, std::string_view>) {
        if (values[at].empty() && op_.skip_empty) continue;
        Put(values[at]);
      } else {
        Put(values[at], 1.0f);
      }
      ++kept;
    }
    if (kept == 0 && (op_.skip_empty || op_.exactly == 0)) return Default();
    if (!RightCount(kept)) throw Refusal{(op_.sequence ? "has an element that " : "") + HasCount(kept)};
  }

  /// The elements of a sequence, a cell for each.
  template <typename Cells>
  void PutElements(const Cells& elements, const Validity& valid, CellRange range) {
    for (int64_t at = range.begin; at < range.end; ++at) {
      if (!valid[at]) {
        if (!op_.skip_empty) throw Refusal{"has a null in the list"};
        Default();
      } else if constexpr (std::is_same_v<typename Cells::Value, std::string_view>) {
        PutJoined(elements[at]);
      } else {
        Put(elements[at], 1.0f);
      }
    }
  }

  int64_t end() const { return static_cast<int64_t>(values_.size()); }
  Buffer<int64_t>& values() { return values_; }
  const SparseOp& op() const { return op_; }

 private:
  bool RightCount(int64_t count) const { return op_.exactly == 0 || count == op_.exactly; }
  std::string HasCount(int64_t count) const {
    return "has " + std::to_string(count) + " values where value_dim is " + std::to_string(op_.exactly);
  }

  const SparseOp& op_;
  const Encode& encode_;
  Buffer<int64_t>& values_;
  Buffer<float>* weights_;
};

/// One text or number per cell.
template <typename Cells, typename Encode>
void EmitCells(const arrow::ArrayData& column, const Cells& cells, const RowSlice& slice, int64_t& row,
               Emitter<Encode>& emit, int64_t* ends) {
  using Value = typename Cells::Value;
  const Validity valid(column);
  if constexpr (std::is_same_v<Encode, DirectId> && std::is_integral_v<Value>) {
    if (valid.all()) {  // weights are filled in by Run
      const int64_t start = emit.end();
      const Value* first = cells.data() + slice.begin;
      emit.values().insert(emit.values().end(), first, first + slice.count);
      for (int64_t i = 0; i < slice.count; ++i) ends[i] = start + i + 1;
      return;
    }
  }
  for (row = 0; row < slice.count; ++row) {
    const int64_t i = slice.begin + row;
    if (valid[i]) {
      emit.PutCell(cells[i]);
    } else {
      emit.Default();
    }
    ends[row] = emit.end();
  }
}

/// A list per cell; put(range) appends what its values are.
template <typename Encode, typename Put>
void EmitRanges(const arrow::ArrayData& column, const RowSlice& slice, int64_t& row, Emitter<Encode>& emit,
                int64_t* ends, Put&& put) {
  const Lists lists(column);
  for (row = 0; row < slice.count; ++row) {
    CellRange range = lists[slice.begin + row];
    if (range.size() == 0) {
      emit.Default();
    } else {
      range.end = range.begin + std::min(range.size(), emit.op().most_elements);
      put(range);
    }
    ends[row] = emit.end();
  }
}

/// Copies lists of ids when every value of them is taken as it is; otherwise false.
template <typename Integers, typename Encode>
bool CopyLists(const arrow::ArrayData& column, const Integers& values, const RowSlice& slice, Emitter<Encode>& emit,
               int64_t* ends) {
  const SparseOp& op = emit.op();
  const Lists lists(column);
  if (!lists.all_valid() || !Validity(*column.child_data[0]).all() || slice.count == 0) return false;
  if (!op.sequence && op.exactly > 0) return false;
  const int64_t least = op.default_ids.empty() ? 0 : 1, most = op.sequence ? op.most_elements : op.most;
  for (int64_t i = 0; i < slice.count; ++i) {
    const int64_t size = lists[slice.begin + i].size();
    if (size < least || size > most) return false;
  }
  const int64_t first = lists[slice.begin].begin, last = lists[slice.begin + slice.count - 1].end;
  const int64_t shift = emit.end() - first;
  emit.values().insert(emit.values().end(), values.data() + first, values.data() + last);
  for (int64_t i = 0; i < slice.count; ++i) ends[i] = lists[slice.begin + i].end + shift;
  return true;
}

/// A list of values per cell, or of elements.
template <typename Cells, typename Encode>
void EmitLists(const arrow::ArrayData& column, const Cells& values, const RowSlice& slice, int64_t& row,
               Emitter<Encode>& emit, int64_t* ends) {
  if constexpr (std::is_same_v<Encode, DirectId> && std::is_integral_v<typename Cells::Value>) {
    if (CopyLists(column, values, slice, emit, ends)) return;
  }
  const Validity valid(*column.child_data[0]);
  EmitRanges(column, slice, row, emit, ends, [&](CellRange range) {
    if (emit.op().sequence) {
      emit.PutElements(values, valid, range);
    } else {
      emit.PutList(values, valid, range);
    }
  });
}

/// A list of elements per cell, each a list of values.
template <typename Cells, typename Encode>
void EmitNestedLists(const arrow::ArrayData& column, const Cells& values, const RowSlice& slice, int64_t& row,
                     Emitter<Encode>& emit, int64_t* ends) {
  const Lists elements(*column.child_data[0]);
  const Validity valid(*column.child_data[0]->child_data[0]);
  EmitRanges(column, slice, row, emit, ends, [&](CellRange range) {
    for (int64_t at = range.begin; at < range.end; ++at) emit.PutList(values, valid, elements[at]);
  });
}

/// A map of id to weight per cell.
template <typename Keys, typename Items, typename Encode>
void EmitMaps(const arrow::ArrayData& column, const Keys& keys, const Items& items, const RowSlice& slice, int64_t& row,
              Emitter<Encode>& emit, int64_t* ends) {
  const arrow::ArrayData& pairs = *column.child_data[0];
  const Validity valid_item(*pairs.child_data[1]);
  EmitRanges(column, slice, row, emit, ends, [&](CellRange range) {
    range.end = range.begin + std::min(range.size(), emit.op().most);
    for (int64_t pair = pairs.offset + range.begin; pair < pairs.offset + range.end; ++pair) {
      float weight = 1;
      if (emit.op().weighted) {
        if (!valid_item[pair]) throw Refusal{"has a null weight in the map"};
        if constexpr (std::is_same_v<typename Items::Value, std::string_view>) {
          if (!ParseNumber(items[pair], &weight)) throw Refusal{Shown(items[pair]) + " is not a weight"};
        } else {
          weight = static_cast<float>(items[pair]);
        }
      }
      emit.Put(keys[pair], weight);
    }
  });
}

template <typename Encode>
void EmitSlice(const RowSlice& slice, const arrow::ArrayData& column, int64_t& row, Emitter<Encode>& emit,
               int64_t* ends) {
  switch (column.type->id()) {
    case arrow::Type::LIST: {
      const arrow::ArrayData& child = *column.child_data[0];
      if (child.type->id() == arrow::Type::LIST) {
        VisitCells(*child.child_data[0],
                   [&](const auto& values) { EmitNestedLists(column, values, slice, row, emit, ends); });
      } else {
        VisitCells(child, [&](const auto& values) { EmitLists(column, values, slice, row, emit, ends); });
      }
      break;
    }
    case arrow::Type::MAP: {
      const arrow::ArrayData& pairs = *column.child_data[0];
      VisitCells(*pairs.child_data[0], [&](const auto& keys) {
        VisitCells(*pairs.child_data[1],
                   [&](const auto& items) { EmitMaps(column, keys, items, slice, row, emit, ends); });
      });
      break;
    }
    default:
      VisitCells(column, [&](const auto& cells) { EmitCells(column, cells, slice, row, emit, ends); });
  }
}

bool IsInteger(const arrow::DataType& type) {
  return type.id() == arrow::Type::INT32 || type.id() == arrow::Type::INT64;
}

bool IsFloating(const arrow::DataType& type) {
  return type.id() == arrow::Type::FLOAT || type.id() == arrow::Type::DOUBLE;
}

}  // namespace

void SparseOp::CheckType(const arrow::DataType& type) const {
  const bool buckets = std::holds_alternative<BucketId>(encoder);
  const auto readable = [&](const arrow::DataType& value) {
    return value.id() == arrow::Type::STRING || IsInteger(value) || (buckets && IsFloating(value));
  };
  bool good = false;
  if (type.id() == arrow::Type::LIST) {
    const arrow::DataType& value = *type.field(0)->type();
    good = readable(sequence && value.id() == arrow::Type::LIST ? *value.field(0)->type() : value);
  } else if (type.id() == arrow::Type::MAP) {
    const auto& map = static_cast<const arrow::MapType&>(type);
    const arrow::DataType& item = *map.item_type();
    good = !buckets && !sequence && readable(*map.key_type()) &&
           (item.id() == arrow::Type::STRING || IsInteger(item) || IsFloating(item));
  } else {
    good = readable(type);
  }
  if (good) return;
  const char* kinds = sequence  ? buckets ? "str|int|float and list or list<list> of these"
                                          : "str|int|list<str>|list<int>|list<list<str>>|list<list<int>>"
                      : buckets ? "str|int|float|list<str>|list<int>|list<float>"
                                : "str|int|list<int>|map<int,double>";
  throw DataError("feature " + feature + ": column " + column + " has dtype " + type.ToString() + ", only support " +
                  kinds);
}

void SparseOp::SetDefault(const std::string& text) {
  default_ids.clear();
  default_weights.clear();
  if (text.empty()) return;
  Buffer<int64_t> ids;
  Buffer<float> weights;
  SparseOp lenient = *this;  // one default stands for every component of a vector
  lenient.exactly = 0;
  const auto put = [&](const auto& encode) { Emitter(lenient, encode, ids, &weights).PutJoined(text); };
  try {
    if (const auto* bucket = std::get_if<BucketId>(&encoder)) {
      put(DefaultBucketId{bucket->boundaries});
    } else {
      std::visit(put, encoder);
    }
  } catch (const Refusal& refusal) {
    throw ConfigError("feature " + feature + ": default value " + Shown(text) + ": " + refusal.what);
  }
  if (exactly > 1 && ids.size() == 1) {
    ids.resize(exactly, ids[0]);
    weights.resize(exactly, weights[0]);
  }
  if (exactly > 0 && static_cast<int64_t>(ids.size()) != exactly) {
    throw ConfigError("feature " + feature + ": default value " + Shown(text) + " has " + std::to_string(ids.size()) +
                      " values where value_dim is " + std::to_string(exactly));
  }
  default_ids = std::move(ids);
  default_weights = std::move(weights);
}

void SparseOp::Run(const RowSlice& slice, bool weights, data::KeyedJagged& out, int64_t* ends) const {
  // Unweighted features of a weighted set get their ones in bulk afterwards.
  Buffer<float>* own_weights = weights && weighted ? &out.weights : nullptr;
  int64_t row = 0;
  try {
    std::visit(
        [&](const auto& encode) {
          Emitter emit(*this, encode, out.values, own_weights);
          if (column_index < 0) {
            for (row = 0; row < slice.count; ++row) {
              emit.Default();
              ends[row] = emit.end();
            }
          } else {
            EmitSlice(slice, *slice.rows->column_data(column_index), row, emit, ends);
          }
        },
        encoder);
  } catch (const Refusal& refusal) {
    ThrowBadValue(slice, row, column, feature, refusal.what);
  }
  if (weights) out.weights.resize(out.values.size(), 1.0f);
}

}  // namespace anneal::features
