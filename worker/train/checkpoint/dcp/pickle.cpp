#include "worker/train/checkpoint/dcp/pickle.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>

#include "worker/config/error.h"

namespace anneal::checkpoint::dcp {
namespace {

constexpr size_t kMaxValues = 8 << 20;

/// Every class of a checkpoint's metadata and of a saved tensor.
bool IsKnownClass(std::string_view name) {
  static constexpr std::array<std::string_view, 36> kKnown = {
      "torch.distributed.checkpoint.metadata.Metadata",
      "torch.distributed.checkpoint.metadata.MetadataIndex",
      "torch.distributed.checkpoint.metadata.TensorStorageMetadata",
      "torch.distributed.checkpoint.metadata.BytesStorageMetadata",
      "torch.distributed.checkpoint.metadata.ChunkStorageMetadata",
      "torch.distributed.checkpoint.metadata.TensorProperties",
      "torch.distributed.checkpoint.metadata._MEM_FORMAT_ENCODING",
      "torch.distributed.checkpoint.metadata.StorageMeta",
      "torch.distributed.checkpoint.filesystem._StorageInfo",
      "torch.serialization._get_layout",
      "torch._utils._rebuild_tensor_v2",
      "collections.OrderedDict",
      "pathlib.PosixPath",
      "pathlib._local.PosixPath",
      "torch.Size",
      "torch.FloatStorage",
      "torch.DoubleStorage",
      "torch.HalfStorage",
      "torch.BFloat16Storage",
      "torch.LongStorage",
      "torch.IntStorage",
      "torch.ShortStorage",
      "torch.CharStorage",
      "torch.ByteStorage",
      "torch.BoolStorage",
      "torch.UntypedStorage",
      "torch.float32",
      "torch.float64",
      "torch.float16",
      "torch.bfloat16",
      "torch.int64",
      "torch.int32",
      "torch.int16",
      "torch.int8",
      "torch.uint8",
      "torch.bool",
  };
  return std::find(kKnown.begin(), kKnown.end(), name) != kKnown.end();
}

}  // namespace

bool Value::is(std::string_view class_name) const { return kind == Kind::kObject && type->text == class_name; }

const Value* Value::Find(std::string_view key) const {
  if (kind == Kind::kObject) return state && state->kind == Kind::kDict ? state->Find(key) : nullptr;
  if (kind != Kind::kDict) return nullptr;
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    if (items[i]->kind == Kind::kText && items[i]->text == key) return items[i + 1];
  }
  return nullptr;
}

/// The stack machine that a pickle is a program for.
class Pickle::Machine {
 public:
  Machine(Pickle& pickle, std::string_view bytes, const std::string& name)
      : pickle_(pickle), bytes_(bytes), name_(name) {}

  const Value* Run() {
    for (;;) {
      const unsigned char opcode = static_cast<unsigned char>(Take(1)[0]);
      if (opcode == '.') {
        if (stack_.size() != 1) Fail("its end leaves " + std::to_string(stack_.size()) + " values");
        return Pop();
      }
      Step(opcode);
    }
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw DataError(name_ + ": not a checkpoint's pickle: " + what + " at byte " + std::to_string(at_));
  }

  std::string_view Take(uint64_t count) {
    if (count > bytes_.size() - at_) Fail("it ends early");
    const std::string_view taken = bytes_.substr(at_, count);
    at_ += count;
    return taken;
  }
  uint64_t Number(int width) {
    uint64_t number = 0;
    std::memcpy(&number, Take(width).data(), width);
    return number;
  }
  std::string_view Line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) Fail("it ends early");
    const std::string_view line = Take(end - at_);
    Take(1);
    return line;
  }

  Value* Make(Kind kind) {
    if (pickle_.values_.size() >= kMaxValues) Fail("it has more than " + std::to_string(kMaxValues) + " values");
    pickle_.values_.emplace_back().kind = kind;
    return &pickle_.values_.back();
  }
  void Push(Value* value) { stack_.push_back(value); }
  void PushNumber(Kind kind, int64_t number) {
    Push(Make(kind));
    stack_.back()->number = number;
  }
  void PushText(std::string_view text) {
    Push(Make(Kind::kText));
    stack_.back()->text = text;
  }
  Value* Pop() {
    // What lies below a mark belongs to the one that set it.
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) Fail("its stack is empty");
    Value* value = stack_.back();
    stack_.pop_back();
    return value;
  }
  Value* Top(Kind kind) {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back()) || stack_.back()->kind != kind) Fail("an opcode does not fit its stack");
    return stack_.back();
  }
  std::vector<const Value*> PopToMark() {
    if (marks_.empty()) Fail("a mark is missing");
    std::vector<const Value*> items(stack_.begin() + static_cast<int64_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  void PushTuple(size_t count) {
    Value* tuple = Make(Kind::kTuple);
    tuple->items.resize(count);
    for (size_t i = count; i-- > 0;) tuple->items[i] = Pop();
    Push(tuple);
  }
  void PushLong(uint64_t width) {
    const std::string_view digits = Take(width);
    if (width > 8) Fail("an integer has more than 64 bits");
    int64_t number = 0;
    std::memcpy(&number, digits.data(), width);
    if (width > 0 && width < 8 && (digits.back() & 0x80)) number -= int64_t{1} << (8 * width);
    PushNumber(Kind::kInt, number);
  }
  void PushClass(std::string_view module, std::string_view name) {
    std::string full = std::string(module) + "." + std::string(name);
    if (!IsKnownClass(full)) Fail("'" + full.substr(0, 100) + "' is no class of the format; nothing of it is executed");
    pickle_.names_.push_back(std::move(full));
    Push(Make(Kind::kClass));
    stack_.back()->text = pickle_.names_.back();
  }
  void PushObject() {
    const Value* arguments = Pop();
    const Value* type = Pop();
    if (type->kind != Kind::kClass || arguments->kind != Kind::kTuple) Fail("an opcode does not fit its stack");
    Value* object = Make(Kind::kObject);
    object->type = type;
    object->arguments = arguments;
    Push(object);
  }
  void Remember(uint64_t index) {
    if (stack_.empty()) Fail("its stack is empty");
    memo_[index] = stack_.back();
  }
  void Recall(uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) Fail("it refers to a value that it has not");
    Push(found->second);
  }
  void Append(Value* to, const std::vector<const Value*>& items) {
    if (to->kind == Kind::kDict && items.size() % 2 != 0) Fail("a key has no value");
    to->items.insert(to->items.end(), items.begin(), items.end());
  }

  void Step(unsigned char opcode) {
    switch (opcode) {
      case 0x80:  // PROTO
        if (Number(1) > 5) Fail("its protocol is newer than 5");
        return;
      case 0x95:  // FRAME
        Number(8);
        return;
      case 'N':
        return Push(Make(Kind::kNone));
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        return PushNumber(Kind::kBool, opcode == 0x88);
      case 'K':
        return PushNumber(Kind::kInt, static_cast<int64_t>(Number(1)));
      case 'M':
        return PushNumber(Kind::kInt, static_cast<int64_t>(Number(2)));
      case 'J':
        return PushNumber(Kind::kInt, static_cast<int32_t>(Number(4)));
      case 0x8a:  // LONG1
        return PushLong(Number(1));
      case 'G':  // BINFLOAT: no number of the format is read from one
        Number(8);
        return Push(Make(Kind::kFloat));
      case 0x8c:  // SHORT_BINUNICODE
        return PushText(Take(Number(1)));
      case 'X':
        return PushText(Take(Number(4)));
      case 0x8d:  // BINUNICODE8
        return PushText(Take(Number(8)));
      case 0x94:  // MEMOIZE
        return Remember(memo_.size());
      case 'q':
        return Remember(Number(1));
      case 'r':
        return Remember(Number(4));
      case 'h':
        return Recall(Number(1));
      case 'j':
        return Recall(Number(4));
      case 'c': {
        const std::string_view module = Line();
        return PushClass(module, Line());
      }
      case 0x93: {  // STACK_GLOBAL
        const Value* name = Pop();
        const Value* module = Pop();
        if (name->kind != Kind::kText || module->kind != Kind::kText) Fail("a class has no name");
        return PushClass(module->text, name->text);
      }
      case '(':
        return marks_.push_back(stack_.size());
      case ')':
        return Push(Make(Kind::kTuple));
      case ']':
        return Push(Make(Kind::kList));
      case '}':
        return Push(Make(Kind::kDict));
      case 't': {
        std::vector<const Value*> items = PopToMark();
        Push(Make(Kind::kTuple));
        stack_.back()->items = std::move(items);
        return;
      }
      case 0x85:  // TUPLE1
      case 0x86:
      case 0x87:
        return PushTuple(opcode - 0x84u);
      case 'a': {
        const Value* item = Pop();
        return Append(Top(Kind::kList), {item});
      }
      case 'e': {
        const std::vector<const Value*> items = PopToMark();
        return Append(Top(Kind::kList), items);
      }
      case 's': {
        const Value* value = Pop();
        const Value* key = Pop();
        return Append(Top(Kind::kDict), {key, value});
      }
      case 'u': {
        const std::vector<const Value*> items = PopToMark();
        return Append(Top(Kind::kDict), items);
      }
      case 0x81:  // NEWOBJ
      case 'R':
        return PushObject();
      case 'b': {
        const Value* state = Pop();
        Top(Kind::kObject)->state = state;
        return;
      }
      case 'Q': {  // BINPERSID
        const Value* id = Pop();
        if (id->kind != Kind::kTuple) Fail("an opcode does not fit its stack");
        Push(Make(Kind::kPersistent));
        stack_.back()->arguments = id;
        return;
      }
      default:
        Fail("opcode " + std::to_string(opcode) + " is not used by the format");
    }
  }

  Pickle& pickle_;
  const std::string_view bytes_;
  const std::string& name_;
  size_t at_ = 0;
  std::vector<Value*> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint64_t, Value*> memo_;
};

Pickle::Pickle(std::string_view bytes, const std::string& name) { top_ = Machine(*this, bytes, name).Run(); }

PickleWriter& PickleWriter::raw(std::string_view opcodes) {
  bytes_ += opcodes;
  return *this;
}

PickleWriter& PickleWriter::text(std::string_view text) {
  const auto length = static_cast<uint32_t>(text.size());
  bytes_ += 'X';
  bytes_.append(reinterpret_cast<const char*>(&length), sizeof length);
  bytes_ += text;
  return *this;
}

PickleWriter& PickleWriter::integer(int64_t number) {
  if (number >= 0 && number < 256) {
    bytes_ += 'K';
    bytes_ += static_cast<char>(number);
    return *this;
  }
  bytes_ += "\x8a\x08";  // LONG1 of eight bytes
  bytes_.append(reinterpret_cast<const char*>(&number), sizeof number);
  return *this;
}

PickleWriter& PickleWriter::type(std::string_view module, std::string_view name) {
  bytes_.append("c").append(module).append("\n").append(name).append("\n");
  return *this;
}

PickleWriter& PickleWriter::tuple(const std::vector<int64_t>& numbers) {
  raw("(");
  for (const int64_t number : numbers) integer(number);
  return raw("t");
}

PickleWriter& PickleWriter::size(const std::vector<int64_t>& numbers) {
  return type("torch", "Size").tuple(numbers).raw("\x85R");
}

}  // namespace anneal::checkpoint::dcp
