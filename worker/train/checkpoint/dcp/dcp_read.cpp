#include <algorithm>
#include <filesystem>

#include "worker/config/error.h"
#include "worker/train/checkpoint/dcp/archive.h"
#include "worker/train/checkpoint/dcp/dcp_folder.h"
#include "worker/train/checkpoint/dcp/pickle.h"

namespace anneal::checkpoint::dcp {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxMetadata = size_t{256} << 20, kMaxAxes = 16;

/// Reads what a value has to be; otherwise fails naming the file and the thing.
class Expect {
 public:
  explicit Expect(std::string file) : file_(std::move(file)) {}

  [[noreturn]] void Fail(const std::string& what) const { throw DataError(file_ + ": " + what); }

  const Value& Field(const Value& object, const char* name) const {
    const Value* field = object.Find(name);
    if (!field) Fail(std::string("a field '") + name + "' is missing");
    return *field;
  }
  const Value& Dict(const Value& value, const char* what) const {
    if (value.kind != Kind::kDict) Fail(std::string(what) + " is no dict");
    return value;
  }
  std::string Text(const Value& value, const char* what) const {
    if (value.kind != Kind::kText) Fail(std::string(what) + " is no text");
    return std::string(value.text);
  }
  int64_t Count(const Value& value, const char* what) const {
    if (value.kind != Kind::kInt || value.number < 0) Fail(std::string(what) + " is no size");
    return value.number;
  }
  /// A tuple of sizes, or torch.Size of one.
  std::vector<int64_t> Sizes(const Value& value, const char* what) const {
    const Value* tuple = &value;
    if (value.is("torch.Size")) {
      if (value.arguments->items.empty()) return {};
      tuple = value.arguments->items.front();
    }
    if (tuple->kind != Kind::kTuple || tuple->items.size() > kMaxAxes) Fail(std::string(what) + " is no shape");
    std::vector<int64_t> sizes;
    for (const Value* item : tuple->items) sizes.push_back(Count(*item, what));
    return sizes;
  }

 private:
  std::string file_;
};

DType TypeNamed(const Value& value, const std::string& tensor, const Expect& expect) {
  static const std::map<std::string_view, DType> types = {
      {"torch.float32", DType::kF32},   {"torch.float64", DType::kF64}, {"torch.float16", DType::kF16},
      {"torch.bfloat16", DType::kBF16}, {"torch.int64", DType::kI64},   {"torch.int32", DType::kI32},
      {"torch.uint8", DType::kU8},      {"torch.bool", DType::kBool}};
  const auto found = value.kind == Kind::kClass ? types.find(value.text) : types.end();
  if (found == types.end()) expect.Fail("tensor '" + tensor + "' has an element type that is not supported");
  return found->second;
}

/// Bytes of a tensor; fails when they are more than a file can hold.
int64_t Bytes(const std::vector<int64_t>& shape, DType dtype, const Expect& expect) {
  int64_t bytes = DTypeSize(dtype);
  for (const int64_t extent : shape) {
    if (__builtin_mul_overflow(bytes, extent, &bytes)) expect.Fail("a shape is too large");
  }
  return bytes;
}

/// The metadata of one tensor, its chunks without data.
Tensor Described(const std::string& name, const Value& entry, const Expect& expect) {
  const Value& properties = expect.Field(entry, "properties");
  if (!properties.is("torch.distributed.checkpoint.metadata.TensorProperties") || !properties.state ||
      properties.state->kind != Kind::kTuple || properties.state->items.empty()) {
    expect.Fail("tensor '" + name + "' has no properties");
  }
  Tensor tensor;
  tensor.dtype = TypeNamed(*properties.state->items.front(), name, expect);
  tensor.shape = expect.Sizes(expect.Field(entry, "size"), "a tensor's size");
  tensor.keys = {name};
  Bytes(tensor.shape, tensor.dtype, expect);
  const Value& chunks = expect.Field(entry, "chunks");
  if (chunks.kind != Kind::kList) expect.Fail("tensor '" + name + "' has no list of chunks");
  for (const Value* chunk : chunks.items) {
    Chunk piece;
    piece.offsets = expect.Sizes(expect.Field(*chunk, "offsets"), "a chunk's offset");
    piece.data.name = name;
    piece.data.dtype = tensor.dtype;
    piece.data.shape = expect.Sizes(expect.Field(*chunk, "sizes"), "a chunk's size");
    bool inside = piece.offsets.size() == tensor.shape.size() && piece.data.shape.size() == tensor.shape.size();
    for (size_t axis = 0; inside && axis < tensor.shape.size(); ++axis) {
      inside = piece.data.shape[axis] <= tensor.shape[axis] && piece.offsets[axis] <= tensor.shape[axis] - piece.data.shape[axis];
    }
    if (!inside) expect.Fail("a chunk of tensor '" + name + "' lies outside of it");
    tensor.chunks.push_back(std::move(piece));
  }
  return tensor;
}

/// Where the numbers of a saved tensor lie in its archive: torch._utils._rebuild_tensor_v2(storage, offset, size, stride,
/// ...) of one storage, row-major.
const char* SavedNumbers(const Archive& archive, const TensorView& wanted, const Expect& expect) {
  const std::string text = archive.Record("data.pkl");
  const Pickle pickle(text, archive.name());
  const Value& saved = pickle.top();
  if (!saved.is("torch._utils._rebuild_tensor_v2") || saved.arguments->items.size() < 4) {
    expect.Fail("what is saved of '" + wanted.name + "' is no plain tensor");
  }
  const auto& arguments = saved.arguments->items;
  const Value& storage = *arguments[0];
  if (storage.kind != Kind::kPersistent || storage.arguments->items.size() < 3) expect.Fail("a tensor has no storage");
  const std::string key = expect.Text(*storage.arguments->items[2], "a storage's key");
  const int64_t offset = expect.Count(*arguments[1], "a storage offset");
  if (expect.Sizes(*arguments[2], "a tensor's size") != wanted.shape) {
    expect.Fail("the saved piece of '" + wanted.name + "' has another shape than the metadata says");
  }
  const std::vector<int64_t> strides = expect.Sizes(*arguments[3], "a stride");
  if (strides.size() != wanted.shape.size()) expect.Fail("a stride is no shape");
  int64_t dense = 1;
  for (size_t axis = wanted.shape.size(); axis-- > 0;) {
    if (wanted.shape[axis] > 1 && strides[axis] != dense) expect.Fail("'" + wanted.name + "' is not stored row by row");
    dense *= std::max<int64_t>(wanted.shape[axis], 1);
  }
  const std::string_view numbers = archive.View("data/" + key);
  const int64_t bytes = Bytes(wanted.shape, wanted.dtype, expect), first = Bytes({offset}, wanted.dtype, expect);
  const auto held = static_cast<int64_t>(numbers.size());
  if (first > held || bytes > held - first) expect.Fail("'" + wanted.name + "' holds fewer numbers than the metadata says");
  return numbers.data() + first;
}

}  // namespace

bool DcpFolder::Is(const std::string& path) { return fs::exists(fs::path(path) / ".metadata"); }

DcpFolder::~DcpFolder() = default;

DcpFolder::DcpFolder(const std::string& path) : path_(path) {
  const std::string metadata = path + "/.metadata";
  const Expect expect(metadata);
  const MappedFile file(metadata);
  if (file.size() > kMaxMetadata) expect.Fail("is larger than any metadata");
  const Pickle pickle({file.data(), file.size()}, metadata);
  const Value& top = pickle.top();
  if (!top.is("torch.distributed.checkpoint.metadata.Metadata")) expect.Fail("holds no checkpoint metadata");

  const auto& described = expect.Dict(expect.Field(top, "state_dict_metadata"), "state_dict_metadata").items;
  for (size_t i = 0; i < described.size(); i += 2) {
    const std::string name = expect.Text(*described[i], "a state's name");
    if (described[i + 1]->is("torch.distributed.checkpoint.metadata.BytesStorageMetadata")) continue;
    tensors_[name] = Described(name, *described[i + 1], expect);
  }

  if (const Value* planner = top.Find("planner_data"); planner && planner->kind == Kind::kDict) {
    for (size_t i = 0; i < planner->items.size(); i += 2) {
      const Value &name = *planner->items[i], &keys = *planner->items[i + 1];
      const auto found = name.kind == Kind::kText ? tensors_.find(std::string(name.text)) : tensors_.end();
      if (found == tensors_.end() || keys.kind != Kind::kTuple) continue;
      std::vector<std::string> texts;
      for (const Value* key : keys.items) {
        if (key->kind == Kind::kText) texts.emplace_back(key->text);
      }
      if (!texts.empty() && texts.size() == keys.items.size()) found->second.keys = texts;
    }
  }

  const auto& stored = expect.Dict(expect.Field(top, "storage_data"), "storage_data").items;
  for (size_t i = 0; i < stored.size(); i += 2) {
    const Value &index = *stored[i], &place = *stored[i + 1];
    const auto found = tensors_.find(expect.Text(expect.Field(index, "fqn"), "a state's name"));
    if (found == tensors_.end()) continue;  // an object
    if (const Value* transforms = place.Find("transform_descriptors"); transforms && !transforms->items.empty()) {
      expect.Fail("'" + found->first + "' is compressed: not supported");
    }
    const Value* offset = index.Find("offset");
    const std::vector<int64_t> at = offset && offset->kind != Kind::kNone ? expect.Sizes(*offset, "a chunk's offset")
                                                                          : std::vector<int64_t>(found->second.shape.size(), 0);
    auto& chunks = found->second.chunks;
    const auto chunk = std::find_if(chunks.begin(), chunks.end(), [&](const Chunk& c) { return c.offsets == at; });
    if (chunk == chunks.end()) expect.Fail("'" + found->first + "' has a stored piece that is none of its chunks");
    const std::string name = expect.Text(expect.Field(place, "relative_path"), "a file name");
    if (name.empty() || name.find('/') != std::string::npos) expect.Fail("file '" + name + "' is outside the folder");
    const std::string shard = (fs::path(path) / name).string();
    auto& mapped = files_[name];
    if (!mapped) mapped = std::make_unique<MappedFile>(shard);
    const int64_t begin = expect.Count(expect.Field(place, "offset"), "an offset");
    const int64_t length = expect.Count(expect.Field(place, "length"), "a length");
    const auto size = static_cast<int64_t>(mapped->size());
    if (begin > size || length > size - begin) throw DataError(shard + ": is shorter than its metadata says");
    const Archive archive({mapped->data() + begin, static_cast<size_t>(length)}, shard);
    chunk->data.data = SavedNumbers(archive, chunk->data, Expect(shard));
  }
  for (const auto& [name, tensor] : tensors_) {
    for (const Chunk& chunk : tensor.chunks) {
      if (!chunk.data.data) expect.Fail("a piece of '" + name + "' is nowhere");
    }
  }
}

}  // namespace anneal::checkpoint::dcp
