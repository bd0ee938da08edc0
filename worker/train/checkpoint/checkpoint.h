// Checkpoints: model_dir/model.ckpt-<step>/, whole or not at all (design: docs/architecture.md).
//
//   model-00000-of-00002.safetensors      this rank's pieces of the model state, names as TorchEasyRec's
//   optimizer-00000-of-00002.safetensors  the same of the optimizer state
//   plan                                  where the tables lived
//   dataloader_state.json                 consumed rows per source (parity/train.md 5)
//   train_state.json                      schedule position and counters of the trainer
//   manifest.json                         written last: size and checksum of every file, pieces of every tensor, and
//                                         its own checksum
//
// Ranks write into one temporary folder; rank 0 renames it when every piece is on the disk.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "worker/train/checkpoint/safetensors.h"

namespace anneal::checkpoint {

namespace dcp {
class DcpFolder;
}

/// A tensor, or the rows [row_begin, row_begin + shape[0]) of one whose first axis is `global_rows` long, and of those
/// the columns [column_begin, column_begin + shape[1]) when its second is `global_columns` long.
struct Piece {
  TensorView tensor;
  int64_t row_begin = 0;
  int64_t global_rows = -1;  ///< -1: the tensor is whole
  int64_t column_begin = 0;
  int64_t global_columns = 0;         ///< of a tensor with two axes; 0: all its columns are here
  std::shared_ptr<const void> owner;  ///< of the tensor's memory, when that is a copy made for the checkpoint
};

/// A rectangle of a tensor; a tensor with one axis is one column wide.
struct Block {
  int64_t row_begin = 0, rows = 0;
  int64_t column_begin = 0, columns = 1;
};

/// What one rank saves. The text files are taken from rank 0.
struct Contents {
  int64_t step = 0;
  std::vector<Piece> model, optimizer;
  std::map<std::string, std::string> files;  ///< name -> text: plan, dataloader_state.json, train_state.json
};

/// The ranks that save together.
struct Writers {
  int rank = 0, world_size = 1;
  std::function<void()> barrier = [] {};
};

/// A save in its steps, for callers that do other work between them. Every rank goes through them in this order, with a
/// barrier after each. They throw TemporaryError (disk full, ...); whatever was thrown, Publish is called by rank 0.
class Saving {
 public:
  Saving(const std::string& model_dir, int64_t step, int rank, int world_size);
  void Prepare();                              ///< rank 0: an empty folder
  void WriteShards(const Contents& contents);  ///< this rank's part; may take a thread of its own
  /// Rank 0: makes the checkpoint exist, or with `failed` and when it throws removes what was written.
  void Publish(const Contents& contents, bool failed);
  /// Whether the checkpoint exists.
  bool Published() const;
  const std::string& path() const { return path_; }  ///< of the checkpoint

 private:
  const std::string path_, folder_;
  const int rank_, world_size_;
};

/// Path of a step's checkpoint.
std::string CheckpointPath(const std::string& model_dir, int64_t step);

/// Collective. Returns the checkpoint's path, or an empty text when it could not be written on some rank: then what
/// went wrong is in `problem`, the folder of the attempt is removed and older checkpoints are untouched.
std::string Save(const std::string& model_dir, const Contents& contents, const Writers& writers, std::string* problem);

/// Rewrites one text file of a finished checkpoint in place (dataloader_state.json at the end of a pass). The
/// checkpoint is whole before, after and at any moment between.
void RewriteFile(const std::string& checkpoint, const std::string& name, const std::string& text);

/// Removes folders that a killed run left half written.
void RemoveUnfinished(const std::string& model_dir);

/// A tensor of a checkpoint, in blocks that do not overlap.
struct StoredTensor {
  std::vector<int64_t> shape;
  std::vector<std::pair<Block, TensorView>> pieces;  ///< at least one
};

/// Where a piece begins in the tensor, an index for each axis.
std::vector<int64_t> OffsetsOf(const Block& block, const StoredTensor& stored);

/// Reads a checkpoint folder, one of TorchEasyRec's (dcp/layout.h), or a bare .safetensors file of state names.
class Reader {
 public:
  /// Throws DataError naming the file when manifest or metadata, a size or a checksum is wrong.
  explicit Reader(const std::string& path);
  ~Reader();

  const std::string& path() const { return path_; }
  int64_t step() const { return step_; }  ///< 0 for a bare file
  bool has(const std::string& name) const { return tensors_.count(name) > 0; }
  std::vector<int64_t> shape(const std::string& name) const;
  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }

  /// Copies a block of a float32 tensor, row-major, to `out`: axes behind the first count as one, a tensor without axes
  /// has one row. Throws DataError when name, type or shape do not fit.
  void ReadBlock(const std::string& name, const Block& block, float* out) const;
  /// The same for whole rows [begin, begin + rows), each `width` numbers.
  void ReadRows(const std::string& name, int64_t begin, int64_t rows, int64_t width, float* out) const;
  /// Copies a whole tensor of `bytes` bytes as it is stored (counters of other types than float32).
  void ReadRaw(const std::string& name, size_t bytes, void* out) const;
  /// The bytes of all rows of a tensor. Throws DataError when rows are missing or of different types.
  std::string Join(const std::string& name) const;
  /// The text of plan, dataloader_state.json, train_state.json; nullopt when the checkpoint has none.
  std::optional<std::string> file(const std::string& name) const;

 private:
  void AddWhole(const SafetensorsFile& file);
  void OpenFolder();
  void OpenTorchEasyRec();

  std::string path_;
  int64_t step_ = 0;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::vector<std::unique_ptr<dcp::DcpFolder>> parts_;
  std::deque<std::string> joined_;  ///< tensors whose pieces are not whole rows
  std::map<std::string, StoredTensor> tensors_;
};

/// The newest checkpoint of a model_dir, or the one that `path` itself names (parity/train.md 4); null when there is
/// none. A checkpoint that fails its checksums is reported to `warn` and the one before it taken; one that `path` itself
/// names throws.
std::unique_ptr<Reader> OpenLatest(const std::string& path, const std::function<void(const std::string&)>& warn);
/// Step at the end of a checkpoint's name, 0 when there is none.
int64_t StepOf(const std::string& checkpoint);
/// All checkpoint folders of a model_dir, by step.
std::map<int64_t, std::string> List(const std::string& model_dir);
/// Removes all but the `keep` newest checkpoints (0 keeps all) and `protect`; returns what was removed.
std::vector<std::string> Prune(const std::string& model_dir, int keep, const std::string& protect = "");

/// fine_tune_ckpt_param_map: lines "<name in current model> <name in old checkpoint>". Throws ConfigError naming the
/// line.
std::map<std::string, std::string> ReadParamMap(const std::string& path);

}  // namespace anneal::checkpoint
