#include "worker/train/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"

namespace anneal::checkpoint {
namespace {

using nlohmann::json;

constexpr int64_t kMaxHeader = int64_t{100} << 20;  // the format's own bound

constexpr int64_t kChunk = int64_t{1} << 18;         // elements read at a time

struct DTypeFacts {
  DType dtype;
  const char* name;
  int64_t size;
};
constexpr std::array<DTypeFacts, 8> kDTypes = {{{DType::kF32, "F32", 4},
                                                {DType::kF64, "F64", 8},
                                                {DType::kF16, "F16", 2},
                                                {DType::kBF16, "BF16", 2},
                                                {DType::kI64, "I64", 8},
                                                {DType::kI32, "I32", 4},
                                                {DType::kU8, "U8", 1},
                                                {DType::kBool, "BOOL", 1}}};

TensorView ParseEntry(const std::string& name, const json& entry, const char* data, int64_t size,
                      const std::string& where) {
  auto fail = [&](const std::string& what) -> void { throw DataError(where + ": tensor '" + name + "': " + what); };
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets")) {
    fail("needs dtype, shape and data_offsets");
  }
  TensorView view;
  view.name = name;
  const auto facts = std::find_if(kDTypes.begin(), kDTypes.end(),
                                  [&](const DTypeFacts& f) { return entry["dtype"] == f.name; });
  if (facts == kDTypes.end()) fail("dtype " + entry["dtype"].dump() + " is not known");
  view.dtype = facts->dtype;
  int64_t elements = 1;
  if (!entry["shape"].is_array()) fail("shape is not a list");
  for (const json& extent : entry["shape"]) {
    if (!extent.is_number_unsigned() || extent.get<uint64_t>() > (uint64_t{1} << 48)) fail("shape is not a list of sizes");
    view.shape.push_back(extent.get<int64_t>());
    if (__builtin_mul_overflow(elements, view.shape.back(), &elements)) fail("shape is too large");
  }
  const json& offsets = entry["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) {
    fail("data_offsets are not two numbers");
  }
  const uint64_t begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
  int64_t bytes = 0;
  if (__builtin_mul_overflow(elements, facts->size, &bytes)) fail("shape is too large");
  if (begin > end || end > static_cast<uint64_t>(size) || end - begin != static_cast<uint64_t>(bytes)) {
    fail("data_offsets do not fit shape and file");
  }
  view.data = data + begin;
  return view;
}

}  // namespace

const char* DTypeName(DType dtype) {
  for (const auto& facts : kDTypes) {
    if (facts.dtype == dtype) return facts.name;
  }
  return "?";
}

int64_t DTypeSize(DType dtype) {
  for (const auto& facts : kDTypes) {
    if (facts.dtype == dtype) return facts.size;
  }
  return 0;
}

int64_t TensorView::elements() const {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

FileDigest WriteSafetensors(const std::string& path, std::span<const TensorView> tensors) {
  json header = json::object();
  int64_t offset = 0;
  for (const TensorView& tensor : tensors) {
    header[tensor.name] = {{"dtype", DTypeName(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.bytes()}}};
    offset += tensor.bytes();
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  SyncedFile writer(path);
  writer.Write(&length, sizeof length);
  writer.Write(text.data(), static_cast<int64_t>(text.size()));
  std::vector<float> chunk;
  for (const TensorView& tensor : tensors) {
    if (!tensor.read) {
      writer.Write(tensor.data, tensor.bytes());
      continue;
    }
    for (int64_t first = 0; first < tensor.elements(); first += kChunk) {
      chunk.resize(std::min(kChunk, tensor.elements() - first));
      tensor.read(first, static_cast<int64_t>(chunk.size()), chunk.data());
      writer.Write(chunk.data(), static_cast<int64_t>(chunk.size() * sizeof(float)));
    }
  }
  return writer.Finish();
}

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  uint64_t length = 0;
  if (file_.size() < sizeof length) throw DataError(path + ": not a safetensors file (too short)");
  std::memcpy(&length, file_.data(), sizeof length);
  if (length > static_cast<uint64_t>(kMaxHeader) || length > file_.size() - sizeof length) {
    throw DataError(path + ": not a safetensors file (header length " + std::to_string(length) + ")");
  }
  const char *header_begin = file_.data() + sizeof length, *data = header_begin + length;
  const json header = json::parse(header_begin, data, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) throw DataError(path + ": the safetensors header is not a JSON object");
  const auto data_size = static_cast<int64_t>(file_.size() - sizeof length - length);
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") tensors_.emplace(name, ParseEntry(name, entry, data, data_size, path));
  }
}

}  // namespace anneal::checkpoint
