// A folder of torch.distributed.checkpoint: `.metadata`, a pickle that says where every piece of every tensor is, and
// shard files (.distcp) that hold one torch.save archive per piece.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "worker/train/checkpoint/safetensors.h"

namespace anneal::checkpoint::dcp {

/// A piece of a tensor: offsets along every axis, and its data.
struct Chunk {
  std::vector<int64_t> offsets;
  TensorView data;
};

struct Tensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::vector<Chunk> chunks;
  /// Keys of the nested state dict that lead to the tensor: {"state", "model.bias", "exp_avg"} of
  /// "state.model.bias.exp_avg". One key when the metadata does not say.
  std::vector<std::string> keys;
};

/// Reads a folder. Nothing in it is executed; every size and offset is checked, and so are the archives' checksums.
/// Objects that are no tensors are left out.
class DcpFolder {
 public:
  static bool Is(const std::string& path);
  /// Throws DataError naming the file and what is wrong with it.
  explicit DcpFolder(const std::string& path);
  ~DcpFolder();
  DcpFolder(const DcpFolder&) = delete;
  DcpFolder& operator=(const DcpFolder&) = delete;

  /// Data points into the mapped files.
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }

 private:
  std::string path_;
  std::map<std::string, std::unique_ptr<MappedFile>> files_;
  std::map<std::string, Tensor> tensors_;
};

/// Whether every chunk is a run of whole rows (axis 0), as tables that are shared out by rows are.
bool HasWholeRows(const Tensor& tensor);
/// The tensor's bytes, row-major, from chunks of any kind (tables that are shared out by columns). Throws DataError
/// beginning with `where` when the chunks do not cover it.
std::string JoinChunks(const Tensor& tensor, const std::string& where);

/// Writes a folder that torch.distributed.checkpoint loads, with one shard file. `folder` has to be there. Throws
/// TemporaryError.
void WriteDcpFolder(const std::string& folder, const std::map<std::string, Tensor>& tensors);

}  // namespace anneal::checkpoint::dcp
