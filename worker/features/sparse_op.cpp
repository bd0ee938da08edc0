#include "worker/features/sparse_op.h"

#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <type_traits>

#include "worker/config/error.h"
#include "worker/features/arrow_column.h"
#include "worker/features/bad_value.h"

namespace anneal::features {
namespace {

using data::Buffer;
using data::RowSlice;

/// Why a value was refused: the value and what is wrong with it.
struct Refusal {
  std::string what;
};

/// Appends the values of one row after the other. Encode is known at compile time: nothing virtual per value.
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
    CheckCount(kept);
  }

  void CheckCount(int64_t count) const {
    if (op_.exactly > 0 && count != op_.exactly) {
      throw Refusal{"has " + std::to_string(count) + " values where value_dim is " + std::to_string(op_.exactly)};
    }
  }

  int64_t end() const { return static_cast<int64_t>(values_.size()); }
  Buffer<int64_t>& values() { return values_; }
  const SparseOp& op() const { return op_; }

 private:
  const SparseOp& op_;
  const Encode& encode_;
  Buffer<int64_t>& values_;
  Buffer<float>* weights_;
};

/// One value per cell.
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
    if (!valid[i]) {
      emit.Default();
    } else if constexpr (std::is_same_v<Value, std::string_view>) {
      if (cells[i].empty()) {
        emit.Default();
      } else {
        emit.PutJoined(cells[i]);
      }
    } else {
      emit.Put(cells[i], 1.0f);
    }
    ends[row] = emit.end();
  }
}

/// A list of values per cell.
template <typename Cells, typename Encode>
void EmitLists(const arrow::ArrayData& column, const Cells& elements, const RowSlice& slice, int64_t& row,
               Emitter<Encode>& emit, int64_t* ends) {
  using Value = typename Cells::Value;
  const SparseOp& op = emit.op();
  const Validity valid(column), valid_element(*column.child_data[0]);
  const int32_t* offsets = column.GetValues<int32_t>(1);
  if constexpr (std::is_same_v<Encode, DirectId> && std::is_integral_v<Value>) {
    const bool any_length = op.most == std::numeric_limits<int64_t>::max() && op.exactly == 0;
    if (valid.all() && valid_element.all() && op.default_ids.empty() && any_length) {
      const int64_t start = emit.end();
      const int32_t* bound = offsets + slice.begin;
      emit.values().insert(emit.values().end(), elements.data() + bound[0], elements.data() + bound[slice.count]);
      for (int64_t i = 0; i < slice.count; ++i) ends[i] = start + bound[i + 1] - bound[0];
      return;
    }
  }
  for (row = 0; row < slice.count; ++row) {
    const int64_t i = slice.begin + row;
    int64_t kept = 0;
    if (valid[i]) {
      for (int32_t at = offsets[i]; at < offsets[i + 1] && kept < op.most; ++at) {
        if (!valid_element[at]) throw Refusal{"has a null in the list"};
        if constexpr (std::is_same_v<Value, std::string_view>) {
          if (elements[at].empty() && op.skip_empty) continue;
          emit.Put(elements[at]);
        } else {
          emit.Put(elements[at], 1.0f);
        }
        ++kept;
      }
    }
    if (kept == 0) {
      emit.Default();
    } else {
      emit.CheckCount(kept);
    }
    ends[row] = emit.end();
  }
}

/// A map of id to weight per cell.
template <typename Keys, typename Items, typename Encode>
void EmitMaps(const arrow::ArrayData& column, const Keys& keys, const Items& items, const RowSlice& slice, int64_t& row,
              Emitter<Encode>& emit, int64_t* ends) {
  const arrow::ArrayData& pairs = *column.child_data[0];
  const Validity valid(column), valid_item(*pairs.child_data[1]);
  const int32_t* offsets = column.GetValues<int32_t>(1);
  for (row = 0; row < slice.count; ++row) {
    const int64_t i = slice.begin + row;
    int64_t kept = 0;
    if (valid[i]) {
      for (int32_t at = offsets[i]; at < offsets[i + 1] && kept < emit.op().most; ++at) {
        const int64_t pair = pairs.offset + at;
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
        ++kept;
      }
    }
    if (kept == 0) emit.Default();
    ends[row] = emit.end();
  }
}

template <typename Encode>
void EmitSlice(const RowSlice& slice, const arrow::ArrayData& column, int64_t& row, Emitter<Encode>& emit,
               int64_t* ends) {
  switch (column.type->id()) {
    case arrow::Type::LIST:
      VisitCells(*column.child_data[0],
                 [&](const auto& elements) { EmitLists(column, elements, slice, row, emit, ends); });
      break;
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
    good = readable(*type.field(0)->type());
  } else if (type.id() == arrow::Type::MAP) {
    const auto& map = static_cast<const arrow::MapType&>(type);
    const arrow::DataType& item = *map.item_type();
    good = !buckets && readable(*map.key_type()) &&
           (item.id() == arrow::Type::STRING || IsInteger(item) || IsFloating(item));
  } else {
    good = readable(type);
  }
  if (!good) {
    throw DataError("feature " + feature + ": column " + column + " has dtype " + type.ToString() + ", " +
                    (buckets ? "only support str|int|float|list<str>|list<int>|list<float>"
                             : "only support str|int|list<int>|map<int,double>"));
  }
}

void SparseOp::SetDefault(const std::string& text) {
  default_ids.clear();
  default_weights.clear();
  if (text.empty()) return;
  Buffer<int64_t> ids;
  Buffer<float> weights;
  IdEncoder plain = encoder;
  if (auto* bucket = std::get_if<BucketId>(&plain)) bucket->normalizer = Normalizer();
  SparseOp lenient = *this;  // one default stands for every component of a vector
  lenient.exactly = 0;
  try {
    std::visit([&](const auto& encode) { Emitter(lenient, encode, ids, &weights).PutJoined(text); }, plain);
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
