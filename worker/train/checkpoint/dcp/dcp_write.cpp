#include <filesystem>

#include "worker/train/checkpoint/dcp/archive.h"
#include "worker/train/checkpoint/dcp/dcp_folder.h"
#include "worker/train/checkpoint/dcp/pickle.h"

namespace anneal::checkpoint::dcp {
namespace {

constexpr const char *kMetadata = "torch.distributed.checkpoint.metadata",
                     *kFilesystem = "torch.distributed.checkpoint.filesystem", *kShard = "__0_0.distcp";

struct TypeNames {
  const char *dtype, *storage;
};

TypeNames NamesOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {"float32", "FloatStorage"};
    case DType::kF64:
      return {"float64", "DoubleStorage"};
    case DType::kF16:
      return {"float16", "HalfStorage"};
    case DType::kBF16:
      return {"bfloat16", "BFloat16Storage"};
    case DType::kI64:
      return {"int64", "LongStorage"};
    case DType::kI32:
      return {"int32", "IntStorage"};
    case DType::kU8:
      return {"uint8", "ByteStorage"};
    case DType::kBool:
      break;
  }
  return {"bool", "BoolStorage"};
}

/// torch.save of a row-major tensor whose numbers are storage "0".
std::string SavedTensor(const TensorView& view) {
  std::vector<int64_t> strides(view.shape.size(), 1);
  for (size_t axis = view.shape.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * view.shape[axis];
  PickleWriter p;
  p.type("torch._utils", "_rebuild_tensor_v2").raw("((").text("storage").type("torch", NamesOf(view.dtype).storage);
  p.text("0").text("cpu").integer(view.elements()).raw("tQ").integer(0).tuple(view.shape).tuple(strides);
  p.raw("\x89").type("collections", "OrderedDict").raw(")RtR.");
  return p.bytes();
}

struct Place {
  int64_t offset, length;
};

/// Opcodes: ")\x81}(" makes an object of the class before it with an empty state and opens its items, "ub" ends them.
std::string Metadata(const std::map<std::string, Tensor>& tensors, const std::vector<Place>& places) {
  PickleWriter p;
  p.type(kMetadata, "Metadata").raw(")\x81}(").text("state_dict_metadata").raw("}(");
  for (const auto& [name, tensor] : tensors) {
    p.text(name).type(kMetadata, "TensorStorageMetadata").raw(")\x81}(").text("properties");
    p.type(kMetadata, "TensorProperties").raw(")\x81(").type("torch", NamesOf(tensor.dtype).dtype);
    p.type("torch.serialization", "_get_layout").text("torch.strided").raw("\x85R\x89");
    p.type(kMetadata, "_MEM_FORMAT_ENCODING").integer(0).raw("\x85R\x89tb").text("size").size(tensor.shape);
    p.text("chunks").raw("](");
    for (const Chunk& chunk : tensor.chunks) {
      p.type(kMetadata, "ChunkStorageMetadata").raw(")\x81}(").text("offsets").size(chunk.offsets);
      p.text("sizes").size(chunk.data.shape).raw("ub");
    }
    p.raw("eub");
  }
  p.raw("u").text("planner_data").raw("}(");
  for (const auto& [name, tensor] : tensors) {
    p.text(name).raw("(");
    for (const std::string& key : tensor.keys) p.text(key);
    p.raw("t");
  }
  p.raw("u").text("storage_data").raw("}(");
  size_t place = 0;
  for (const auto& [name, tensor] : tensors) {
    for (size_t i = 0; i < tensor.chunks.size(); ++i, ++place) {
      p.type(kMetadata, "MetadataIndex").raw(")\x81}(").text("fqn").text(name).text("offset");
      p.size(tensor.chunks[i].offsets).text("index").integer(static_cast<int64_t>(i)).raw("ub");
      p.type(kFilesystem, "_StorageInfo").raw(")\x81}(").text("relative_path").text(kShard);
      p.text("offset").integer(places[place].offset).text("length").integer(places[place].length).raw("ub");
    }
  }
  return p.raw("u").text("version").text("1.0.0").raw("ub.").bytes();
}

}  // namespace

void WriteDcpFolder(const std::string& folder, const std::map<std::string, Tensor>& tensors) {
  const std::filesystem::path path = folder;
  SyncedFile shard(path / kShard);
  std::vector<Place> places;
  for (const auto& [name, tensor] : tensors) {
    for (const Chunk& chunk : tensor.chunks) {
      const int64_t begin = shard.bytes();
      WriteArchive(SavedTensor(chunk.data), chunk.data.data, chunk.data.bytes(),
                   [&](const void* data, size_t size) { shard.Write(data, static_cast<int64_t>(size)); });
      places.push_back({begin, shard.bytes() - begin});
    }
  }
  shard.Finish();
  // The metadata last: where it is, the folder is whole.
  WriteFileSynced(path / ".metadata", Metadata(tensors, places));
  SyncFolder(folder);
}

}  // namespace anneal::checkpoint::dcp
