// Python's pickle format as far as torch.distributed.checkpoint uses it. Reading executes nothing: a class is a name in a
// list of the few that the format has, and an object is that name with its arguments and its state.
// https://docs.python.org/3/library/pickletools.html (the opcodes)
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace anneal::checkpoint::dcp {

enum class Kind { kNone, kBool, kInt, kFloat, kText, kTuple, kList, kDict, kClass, kObject, kPersistent };

/// A value of a pickle. Lists and dicts may contain themselves: walk them by the shape that is expected only.
struct Value {
  Kind kind = Kind::kNone;
  int64_t number = 0;                ///< kBool, kInt
  std::string_view text;             ///< kText; kClass: "module.name"
  std::vector<const Value*> items;   ///< elements; kDict: key, value, key, ...
  const Value* type = nullptr;       ///< kObject: a kClass
  const Value* arguments = nullptr;  ///< kObject, kPersistent: a kTuple
  const Value* state = nullptr;      ///< kObject: what it was built from, or null

  bool is(std::string_view class_name) const;  ///< a kObject of that class
  /// Of a kDict the value of a text key; of a kObject that of its state. Null when there is none.
  const Value* Find(std::string_view key) const;
};

/// A parsed pickle. Values live as long as it does; texts point into `bytes`, which the caller keeps.
class Pickle {
 public:
  /// `name` is used in errors. Throws DataError for anything that is truncated, unknown or too large, and for a class
  /// that the format does not have.
  Pickle(std::string_view bytes, const std::string& name);
  Pickle(const Pickle&) = delete;
  Pickle& operator=(const Pickle&) = delete;
  const Value& top() const { return *top_; }

 private:
  class Machine;
  std::deque<Value> values_;
  std::deque<std::string> names_;  ///< of the classes
  const Value* top_ = nullptr;
};

/// Writes a pickle of protocol 2, opcode by opcode; `raw` appends opcodes as they are.
class PickleWriter {
 public:
  PickleWriter& raw(std::string_view opcodes);
  PickleWriter& text(std::string_view text);
  PickleWriter& integer(int64_t number);
  PickleWriter& type(std::string_view module, std::string_view name);
  PickleWriter& tuple(const std::vector<int64_t>& numbers);
  PickleWriter& size(const std::vector<int64_t>& numbers);  ///< torch.Size
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_ = {'\x80', '\x02'};
};

}  // namespace anneal::checkpoint::dcp
