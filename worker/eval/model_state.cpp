#include "worker/eval/model_state.h"

#include <ATen/ATen.h>

#include <cstring>

#include "worker/config/error.h"
#include "worker/train/progress/log.h"

namespace anneal::eval {
namespace {

using checkpoint::DType;
using checkpoint::Piece;
using checkpoint::Reader;

/// Points the piece at the tensor's values, or at a copy of them: when they are frozen or not in the host's memory.
void SetValues(Piece& piece, const at::Tensor& tensor, const Freeze& freeze) {
  const at::Tensor host = tensor.detach().to(at::kCPU, tensor.scalar_type(), /*non_blocking=*/false, freeze.on);
  piece.tensor.data = host.const_data_ptr();
  if (freeze.on || !tensor.is_cpu()) piece.owner = std::make_shared<const at::Tensor>(host);
}

Piece Whole(const nn::NamedTensor& entry, const Freeze& freeze) {
  Piece piece;
  piece.tensor.name = entry.name;
  const at::ScalarType type = entry.tensor.scalar_type();
  piece.tensor.dtype = type == at::kLong ? DType::kI64 : type == at::kBool ? DType::kBool : DType::kF32;
  piece.tensor.shape = entry.tensor.sizes().vec();
  SetValues(piece, entry.tensor, freeze);
  return piece;
}

Piece Rectangle(const embedding::Shard& shard, const Freeze& freeze) {
  Piece piece;
  piece.tensor.name = shard.name;
  piece.tensor.shape = shard.dim > 0 ? std::vector<int64_t>{shard.rows, shard.dim} : std::vector<int64_t>{shard.rows};
  if (freeze.tables) {
    piece.owner = freeze.tables;
    piece.tensor.read = [tables = freeze.tables.get(), table = shard.table, part = shard.part](
                            int64_t first, int64_t count, float* out) { tables->Read(table, part, first, count, out); };
  } else {
    SetValues(piece, shard.tensor(), freeze);
  }
  piece.row_begin = shard.row_begin;
  piece.global_rows = shard.global_rows;
  piece.column_begin = shard.column_begin;
  piece.global_columns = shard.global_dim;
  return piece;
}

std::string Text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

/// Name of a state in the checkpoint: the map's entry for it, or for the parameter before "//".
std::string Renamed(const std::string& name, const NameMap& names) {
  const size_t cut = name.find("//");
  const auto found = names.find(name.substr(0, cut));
  if (found == names.end()) return name;
  LogInfo("Remap restore state [" + name + "] from [" + found->second + "]");
  return found->second + (cut == std::string::npos ? "" : name.substr(cut));
}

bool Wanted(const Reader& reader, const std::string& name, const std::string& stored,
            const std::vector<int64_t>& shape) {
  if (!reader.has(stored)) {
    LogWarning("Skip restore state [" + name + "]");
    return false;
  }
  if (reader.shape(stored) != shape) {
    throw DataError(reader.path() + ": tensor '" + stored + "' has shape " + Text(reader.shape(stored)) +
                    ", the model's is " + Text(shape));
  }
  return true;
}

/// Integers of 64 bits, which the checkpoint may have with 32.
void ReadIntegers(const Reader& reader, const std::string& stored, const at::Tensor& host) {
  const bool narrow = reader.tensors().at(stored).pieces.front().second.dtype == DType::kI32;
  const at::Tensor read = narrow ? at::empty(host.sizes(), at::kInt) : host;
  reader.ReadRaw(stored, read.nbytes(), read.data_ptr());
  if (narrow) host.copy_(read);
}

void RestoreTensor(const Reader& reader, const nn::NamedTensor& entry, const NameMap& names) {
  const std::string stored = Renamed(entry.name, names);
  const auto shape = entry.tensor.sizes().vec();
  if (!Wanted(reader, entry.name, stored, shape)) return;
  if (entry.tensor.numel() == 0) return;
  at::Tensor host = entry.tensor.detach().to(at::kCPU);
  if (host.scalar_type() != at::kFloat) {
    ReadIntegers(reader, stored, host);
  } else {
    const int64_t rows = shape.empty() ? 1 : shape.front();
    reader.ReadRows(stored, 0, rows, host.numel() / rows, host.data_ptr<float>());
  }
  if (!entry.tensor.is_cpu()) entry.tensor.detach().copy_(host);
}

void RestoreShard(const Reader& reader, const embedding::Shard& shard, const NameMap& names) {
  const std::string stored = Renamed(shard.name, names);
  const std::vector<int64_t> shape = shard.dim > 0 ? std::vector<int64_t>{shard.global_rows, shard.global_dim}
                                                   : std::vector<int64_t>{shard.global_rows};
  if (!Wanted(reader, shard.name, stored, shape)) return;
  at::Tensor live = shard.tensor(), host = live.to(at::kCPU);
  reader.ReadBlock(stored, {shard.row_begin, shard.rows, shard.column_begin, std::max<int64_t>(shard.dim, 1)},
                   host.data_ptr<float>());
  if (!live.is_cpu()) live.copy_(host);
}

}  // namespace

std::vector<Piece> ModelPieces(models::Network& network, embedding::ShardedEmbedding& tables, int rank,
                               const Freeze& freeze) {
  std::vector<Piece> pieces;
  if (rank == 0) {
    for (const auto& entry : network.StoredParameters()) pieces.push_back(Whole(entry, freeze));
    for (const auto& entry : network.Buffers()) pieces.push_back(Whole(entry, freeze));
    for (const auto& entry : tables.dense_tables()) pieces.push_back(Whole(entry, freeze));
  }
  for (auto& piece : TablePieces(tables, freeze)) pieces.push_back(std::move(piece));
  return pieces;
}

std::vector<Piece> TablePieces(embedding::ShardedEmbedding& tables, const Freeze& freeze) {
  std::vector<Piece> pieces;
  for (const auto& shard : tables.weights()) pieces.push_back(Rectangle(shard, freeze));
  return pieces;
}

std::vector<Piece> OptimizerPieces(const std::vector<nn::NamedTensor>& dense, embedding::ShardedEmbedding& tables,
                                   int rank, const Freeze& freeze) {
  std::vector<Piece> pieces;
  if (rank == 0) {
    for (const auto& entry : dense) pieces.push_back(Whole(entry, freeze));
  }
  for (const auto& shard : tables.state()) {
    if (!shard.copy) pieces.push_back(Rectangle(shard, freeze));
  }
  return pieces;
}

void RestoreModel(const Reader& reader, models::Network& network, embedding::ShardedEmbedding& tables,
                  const NameMap& names) {
  for (const auto& entry : network.StoredParameters()) RestoreTensor(reader, entry, names);
  for (const auto& entry : network.Buffers()) RestoreTensor(reader, entry, names);
  for (const auto& entry : tables.dense_tables()) RestoreTensor(reader, entry, names);
  RestoreTables(reader, tables, names);
}

void RestoreTables(const Reader& reader, embedding::ShardedEmbedding& tables, const NameMap& names) {
  for (const auto& shard : tables.weights()) RestoreShard(reader, shard, names);
}

void RestoreTensors(const Reader& reader, const std::vector<nn::NamedTensor>& tensors, const NameMap& names) {
  for (const auto& entry : tensors) RestoreTensor(reader, entry, names);
}

void OverlayDenseEma(const Reader& reader, models::Network& network, embedding::ShardedEmbedding& tables) {
  bool any = false;
  auto averaged = [&](const std::string& name) {
    const bool has = reader.has(name + "//dense_ema");
    any = any || has;
    return has;
  };
  auto overlay = [&](const nn::NamedTensor& entry) {
    if (averaged(entry.name)) RestoreTensor(reader, {entry.name + "//dense_ema", entry.tensor}, {});
  };
  for (const auto& entry : network.DenseParameters()) overlay(entry);
  for (const auto& entry : tables.dense_tables()) overlay(entry);
  for (auto shard : tables.weights()) {
    if (!averaged(shard.name)) continue;
    shard.name += "//dense_ema";
    RestoreShard(reader, shard, {});
  }
  if (!any) LogWarning(reader.path() + " has no dense EMA weights: the live ones are used");
}

void RestoreOptimizer(const Reader& reader, const std::vector<nn::NamedTensor>& dense,
                      embedding::ShardedEmbedding& tables, const NameMap& names) {
  for (const auto& entry : dense) RestoreTensor(reader, entry, names);
  for (const auto& shard : tables.state()) RestoreShard(reader, shard, names);
}

}  // namespace anneal::eval
