#include "worker/train/checkpoint/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "worker/config/error.h"
#include "worker/train/checkpoint/dcp/layout.h"

namespace anneal::checkpoint {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kFormat = 2;

std::string ShardName(const char* kind, int rank, int world_size) {
  char name[64];
  std::snprintf(name, sizeof name, "%s-%05d-of-%05d.safetensors", kind, rank, world_size);
  return name;
}

/// Where a stored tensor lies in the one it is a piece of.
Block BlockOf(const TensorView& tensor, int64_t row_begin, int64_t column_begin) {
  const int64_t rows = tensor.shape.empty() ? 1 : tensor.shape.front();
  int64_t columns = 1;
  for (size_t axis = 1; axis < tensor.shape.size(); ++axis) columns *= tensor.shape[axis];
  return {row_begin, rows, column_begin, columns};
}

std::string ReadText(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw DataError("cannot read " + path.string());
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

json ToJson(const FileDigest& digest) { return {{"bytes", digest.bytes}, {"crc32", digest.crc32}}; }

bool Matches(const json& entry, const FileDigest& digest) {
  return entry.at("bytes").get<int64_t>() == digest.bytes && entry.at("crc32").get<uint32_t>() == digest.crc32;
}

/// The manifest is the last file of a checkpoint and carries a checksum of its own content.
std::string ManifestText(json manifest) {
  manifest.erase("crc32");
  manifest["crc32"] = Digest(manifest.dump()).crc32;
  return manifest.dump(1);
}

json ReadManifest(const fs::path& folder) {
  const fs::path path = folder / "manifest.json";
  if (!fs::exists(path)) throw DataError(folder.string() + " is not a checkpoint: it has no manifest.json");
  json manifest = json::parse(ReadText(path), nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object()) throw DataError(path.string() + " is not a JSON object: the file is damaged");
  if (manifest.value("format", json()) != kFormat) {
    throw DataError(path.string() + ": format " + manifest.value("format", json()).dump() + " is not known");
  }
  const json checksum = manifest.value("crc32", json());
  manifest.erase("crc32");
  if (checksum != Digest(manifest.dump()).crc32)
    throw DataError(path.string() + ": the checksum differs: the file is damaged");
  return manifest;
}

/// Writes one kind of pieces and describes the file for the manifest.
json WriteShard(const fs::path& folder, const char* kind, const std::vector<Piece>& pieces, int rank, int world_size) {
  const std::string name = ShardName(kind, rank, world_size);
  std::vector<TensorView> tensors;
  json described = json::array();
  for (const Piece& piece : pieces) {
    tensors.push_back(piece.tensor);
    const bool whole = piece.global_rows < 0;
    std::vector<int64_t> shape = piece.tensor.shape;
    json note{{"name", piece.tensor.name}, {"row_begin", whole ? 0 : piece.row_begin}};
    if (!whole) shape.at(0) = piece.global_rows;
    if (!whole && piece.global_columns > 0) {
      shape.at(1) = piece.global_columns;
      note["column_begin"] = piece.column_begin;
    }
    note["shape"] = shape;
    described.push_back(std::move(note));
  }
  const FileDigest digest = WriteSafetensors(folder / name, tensors);
  return {{"file", name}, {"kind", kind}, {"bytes", digest.bytes}, {"crc32", digest.crc32}, {"tensors", described}};
}

/// A folder beside the checkpoint that no reader takes for one and RemoveUnfinished removes.
fs::path HiddenPath(const fs::path& checkpoint, const std::string& word) {
  return checkpoint.parent_path() / ("." + checkpoint.filename().string() + "." + word + ".unfinished");
}

/// The manifest, when every rank has written its note.
void WriteManifest(const fs::path& folder, const Contents& contents, int world_size) {
  json shards = json::array();
  for (int rank = 0; rank < world_size; ++rank) {
    const fs::path note = folder / ("rank-" + std::to_string(rank) + ".json");
    if (!fs::exists(note)) throw TemporaryError("rank " + std::to_string(rank) + " could not write its shard");
    for (json& shard : json::parse(ReadText(note))) shards.push_back(std::move(shard));
    fs::remove(note);
  }
  json files = json::object();  // file -> the contents that it may have, see RewriteFile
  for (const auto& [name, text] : contents.files) {
    files[name] = json::array({ToJson(WriteFileSynced(folder / name, text))});
  }
  const json manifest = {
      {"format", kFormat}, {"step", contents.step}, {"world_size", world_size}, {"files", files}, {"shards", shards}};
  WriteFileSynced(folder / "manifest.json", ManifestText(manifest));
  SyncFolder(folder);
}

/// The rename that makes the checkpoint exist.
void MoveInPlace(const fs::path& folder, const fs::path& final) {
  std::error_code error;
  if (fs::exists(final)) {
    // A run that passed over this checkpoint because it is damaged has come here again.
    const fs::path damaged = HiddenPath(final, "replaced");
    fs::remove_all(damaged);
    fs::rename(final, damaged);
    fs::rename(folder, final, error);
    if (!error) fs::remove_all(damaged, error);
  } else {
    fs::rename(folder, final, error);
  }
  if (error)
    throw TemporaryError("cannot rename " + folder.string() + " to " + final.string() + ": " + error.message());
  SyncFolder(final.parent_path());
}

}  // namespace

std::string CheckpointPath(const std::string& model_dir, int64_t step) {
  return (fs::path(model_dir) / ("model.ckpt-" + std::to_string(step))).string();
}

Saving::Saving(const std::string& model_dir, int64_t step, int rank, int world_size)
    : path_(CheckpointPath(model_dir, step)),
      folder_((fs::path(model_dir) / (".model.ckpt-" + std::to_string(step) + ".unfinished")).string()),
      rank_(rank),
      world_size_(world_size) {}

void Saving::Prepare() {
  std::error_code error;
  fs::remove_all(folder_, error);
  fs::create_directories(folder_, error);
  if (error) throw TemporaryError("cannot make " + folder_ + ": " + error.message());
}

void Saving::WriteShards(const Contents& contents) {
  json shards = json::array();
  if (!contents.model.empty()) shards.push_back(WriteShard(folder_, "model", contents.model, rank_, world_size_));
  if (!contents.optimizer.empty()) {
    shards.push_back(WriteShard(folder_, "optimizer", contents.optimizer, rank_, world_size_));
  }
  WriteFileSynced(fs::path(folder_) / ("rank-" + std::to_string(rank_) + ".json"), shards.dump());
}

void Saving::Publish(const Contents& contents, bool failed) {
  try {
    if (!failed) {
      WriteManifest(folder_, contents, world_size_);
      MoveInPlace(folder_, path_);
      return;
    }
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
    throw;
  }
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

// The folder that the rename moves away: what an earlier, damaged checkpoint of this step left does not count.
bool Saving::Published() const { return !fs::exists(folder_) && fs::exists(fs::path(path_) / "manifest.json"); }

std::string Save(const std::string& model_dir, const Contents& contents, const Writers& writers, std::string* problem) {
  Saving saving(model_dir, contents.step, writers.rank, writers.world_size);
  std::string trouble;
  auto attempt = [&](auto action) {
    try {
      action();
    } catch (const std::exception& error) {
      if (trouble.empty()) trouble = error.what();
    }
  };
  if (writers.rank == 0) attempt([&] { saving.Prepare(); });
  writers.barrier();
  attempt([&] { saving.WriteShards(contents); });
  writers.barrier();
  if (writers.rank == 0) attempt([&] { saving.Publish(contents, !trouble.empty()); });
  writers.barrier();
  if (saving.Published()) return saving.path();
  if (problem) *problem = trouble.empty() ? "another rank could not write its part" : trouble;
  return "";
}

void RewriteFile(const std::string& checkpoint, const std::string& name, const std::string& text) {
  const fs::path folder = checkpoint;
  if (!fs::exists(folder / "manifest.json")) return ReplaceFile(folder / name, text);  // TorchEasyRec's has none
  json manifest = ReadManifest(folder);
  // The manifest first allows both contents, so that the checkpoint is whole at every moment between.
  manifest["files"][name] = json::array({ToJson(DigestFile(folder / name)), ToJson(Digest(text))});
  ReplaceFile(folder / "manifest.json", ManifestText(manifest));
  ReplaceFile(folder / name, text);
}

void RemoveUnfinished(const std::string& model_dir) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(model_dir, error)) {
    const std::string name = entry.path().filename();
    std::error_code ignored;
    if (name.starts_with(".model.ckpt-") && name.ends_with(".unfinished")) fs::remove_all(entry.path(), ignored);
  }
}

Reader::Reader(const std::string& path) : path_(path) {
  if (!fs::is_directory(path)) {
    files_.push_back(std::make_unique<SafetensorsFile>(path));
    AddWhole(*files_.back());
  } else if (!fs::exists(fs::path(path) / "manifest.json") && dcp::IsTorchEasyRec(path)) {
    OpenTorchEasyRec();
  } else {
    OpenFolder();
  }
}

Reader::~Reader() = default;

void Reader::AddWhole(const SafetensorsFile& file) {
  for (const auto& [name, tensor] : file.tensors()) tensors_[name] = {tensor.shape, {{BlockOf(tensor, 0, 0), tensor}}};
}

void Reader::OpenTorchEasyRec() {
  step_ = StepOf(path_);
  for (const char* part : dcp::kParts) {
    const std::string folder = (fs::path(path_) / part).string();
    if (!dcp::DcpFolder::Is(folder)) continue;
    parts_.push_back(std::make_unique<dcp::DcpFolder>(folder));
    for (const auto& [name, tensor] : parts_.back()->tensors()) {
      const std::string ours = dcp::OurName(part, name, tensor);
      if (ours.empty() || tensor.chunks.empty()) continue;
      StoredTensor& stored = tensors_[ours];
      stored.shape = tensor.shape;
      if (dcp::HasWholeRows(tensor)) {
        for (const auto& chunk : tensor.chunks) {
          stored.pieces.emplace_back(BlockOf(chunk.data, chunk.offsets.empty() ? 0 : chunk.offsets[0], 0), chunk.data);
        }
      } else {
        joined_.push_back(dcp::JoinChunks(tensor, folder + ": '" + name + "'"));
        const TensorView whole{ours, tensor.dtype, tensor.shape, joined_.back().data()};
        stored.pieces = {{BlockOf(whole, 0, 0), whole}};
      }
    }
  }
}

void Reader::OpenFolder() {
  const fs::path folder = path_;
  const json manifest = ReadManifest(folder);
  const auto damaged = [](const std::string& file) {
    return DataError(file + ": size or checksum differ from manifest.json: the file is damaged");
  };
  try {
    step_ = manifest.at("step").get<int64_t>();
    for (const json& shard : manifest.at("shards")) {
      const std::string name = shard.at("file").get<std::string>();
      if (name.find('/') != std::string::npos) throw DataError(path_ + ": file '" + name + "' is outside the folder");
      const std::string file = (folder / name).string();
      if (!Matches(shard, DigestFile(file))) throw damaged(file);
      files_.push_back(std::make_unique<SafetensorsFile>(file));
      const auto& tensors = files_.back()->tensors();
      for (const json& piece : shard.at("tensors")) {
        const auto found = tensors.find(piece.at("name").get<std::string>());
        if (found == tensors.end()) {
          throw DataError(file + ": tensor '" + piece["name"].get<std::string>() + "' is missing");
        }
        StoredTensor& entry = tensors_[found->first];
        entry.shape = piece.at("shape").get<std::vector<int64_t>>();
        const Block block =
            BlockOf(found->second, piece.at("row_begin").get<int64_t>(), piece.value("column_begin", int64_t{0}));
        entry.pieces.emplace_back(block, found->second);
      }
    }
    for (const auto& [name, contents] : manifest.at("files").items()) {
      const FileDigest digest = DigestFile(folder / name);
      if (std::none_of(contents.begin(), contents.end(), [&](const json& entry) { return Matches(entry, digest); })) {
        throw damaged((folder / name).string());
      }
    }
  } catch (const json::exception& error) {
    throw DataError(path_ + "/manifest.json: " + error.what());
  }
}

std::vector<int64_t> Reader::shape(const std::string& name) const { return tensors_.at(name).shape; }

void Reader::ReadRows(const std::string& name, int64_t begin, int64_t rows, int64_t width, float* out) const {
  const auto found = tensors_.find(name);
  if (found != tensors_.end() && !found->second.shape.empty()) {
    int64_t stored = 1;
    for (size_t axis = 1; axis < found->second.shape.size(); ++axis) stored *= found->second.shape[axis];
    if (stored != width) {
      throw DataError(path_ + ": tensor '" + name + "' has rows of " + std::to_string(stored) +
                      " numbers, the model's have " + std::to_string(width));
    }
  }
  ReadBlock(name, {begin, rows, 0, width}, out);
}

void Reader::ReadBlock(const std::string& name, const Block& block, float* out) const {
  const auto found = tensors_.find(name);
  const std::string where = path_ + ": tensor '" + name + "'";
  if (found == tensors_.end()) throw DataError(where + " is missing");
  int64_t copied = 0;
  for (const auto& [held, tensor] : found->second.pieces) {
    if (tensor.dtype != DType::kF32) throw DataError(where + " is " + DTypeName(tensor.dtype) + ", not F32");
    const int64_t from = std::max(block.row_begin, held.row_begin);
    const int64_t to = std::min(block.row_begin + block.rows, held.row_begin + held.rows);
    const int64_t left = std::max(block.column_begin, held.column_begin);
    const int64_t right = std::min(block.column_begin + block.columns, held.column_begin + held.columns);
    if (from >= to || left >= right) continue;
    const float* source = static_cast<const float*>(tensor.data) + (from - held.row_begin) * held.columns;
    float* target = out + (from - block.row_begin) * block.columns;
    if (held.columns == block.columns && right - left == block.columns) {
      std::memcpy(target, source, sizeof(float) * static_cast<size_t>((to - from) * block.columns));
    } else {
      for (int64_t row = from; row < to; ++row, source += held.columns, target += block.columns) {
        std::copy_n(source + (left - held.column_begin), right - left, target + (left - block.column_begin));
      }
    }
    copied += (to - from) * (right - left);
  }
  if (copied != block.rows * block.columns) {
    throw DataError(where + " holds " + std::to_string(copied) + " of the " +
                    std::to_string(block.rows * block.columns) + " numbers in rows " + std::to_string(block.row_begin) +
                    ".." + std::to_string(block.row_begin + block.rows) + ", columns " +
                    std::to_string(block.column_begin) + ".." + std::to_string(block.column_begin + block.columns) +
                    " that the model has");
  }
}

void Reader::ReadRaw(const std::string& name, size_t bytes, void* out) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end() || found->second.pieces.size() != 1 ||
      static_cast<size_t>(found->second.pieces.front().second.bytes()) != bytes) {
    throw DataError(path_ + ": tensor '" + name + "' is missing or of another size");
  }
  std::memcpy(out, found->second.pieces.front().second.data, bytes);
}

std::vector<int64_t> OffsetsOf(const Block& block, const StoredTensor& stored) {
  std::vector<int64_t> offsets(stored.shape.size(), 0);
  if (!offsets.empty()) offsets[0] = block.row_begin;
  if (offsets.size() > 1) offsets[1] = block.column_begin;
  return offsets;
}

std::string Reader::Join(const std::string& name) const {
  const StoredTensor& stored = tensors_.at(name);
  dcp::Tensor tensor;
  tensor.shape = stored.shape;
  tensor.dtype = stored.pieces.front().second.dtype;
  for (const auto& [block, view] : stored.pieces) tensor.chunks.push_back({OffsetsOf(block, stored), view});
  return dcp::JoinChunks(tensor, path_ + ": tensor '" + name + "'");
}

std::optional<std::string> Reader::file(const std::string& name) const {
  const fs::path path = fs::path(path_) / name;
  if (!fs::is_directory(path_) || !fs::exists(path)) return std::nullopt;
  return ReadText(path);
}

int64_t StepOf(const std::string& checkpoint) {
  std::string name = fs::path(checkpoint).filename();
  if (name.empty()) name = fs::path(checkpoint).parent_path().filename();
  const size_t dash = name.rfind('-');
  if (dash == std::string::npos || dash + 1 == name.size()) return 0;
  int64_t step = 0;
  for (const char c : name.substr(dash + 1)) {
    if (c < '0' || c > '9' || step > (int64_t{1} << 52)) return 0;
    step = step * 10 + (c - '0');
  }
  return step;
}

std::map<int64_t, std::string> List(const std::string& model_dir) {
  std::map<int64_t, std::string> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(model_dir, error)) {
    if (entry.is_directory() && entry.path().filename().string().starts_with("model.ckpt-")) {
      found[StepOf(entry.path())] = entry.path();
    }
  }
  return found;
}

std::unique_ptr<Reader> OpenLatest(const std::string& path, const std::function<void(const std::string&)>& warn) {
  if (path.empty()) return nullptr;
  if (path.find("model.ckpt-") != std::string::npos || fs::is_regular_file(path))
    return fs::exists(path) ? std::make_unique<Reader>(path) : nullptr;
  const auto all = List(path);
  for (auto newest = all.rbegin(); newest != all.rend(); ++newest) {
    try {
      return std::make_unique<Reader>(newest->second);
    } catch (const DataError& error) {
      const bool last = std::next(newest) == all.rend();
      warn(error.what() +
           std::string(last ? "; there is no checkpoint before it" : "; taking the checkpoint before it"));
    }
  }
  if (all.empty() && dcp::IsTorchEasyRec(path)) return std::make_unique<Reader>(path);
  return nullptr;
}

std::vector<std::string> Prune(const std::string& model_dir, int keep, const std::string& protect) {
  std::vector<std::string> removed;
  if (keep <= 0) return removed;
  auto all = List(model_dir);
  while (all.size() > static_cast<size_t>(keep)) {
    const std::string oldest = all.begin()->second;
    all.erase(all.begin());
    if (oldest == protect) continue;
    std::error_code error;
    // First out of sight, so that a half-removed folder is never taken for a checkpoint.
    const fs::path hidden = HiddenPath(oldest, "pruned");
    fs::rename(oldest, hidden, error);
    fs::remove_all(error ? fs::path(oldest) : hidden, error);
    removed.push_back(oldest);
  }
  return removed;
}

std::map<std::string, std::string> ReadParamMap(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw ConfigError("train_config.fine_tune_ckpt_param_map: cannot read " + path);
  std::map<std::string, std::string> map;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    std::istringstream words(line);
    std::string current, old, more;
    if (!(words >> current)) continue;
    if (!(words >> old) || words >> more) {
      throw ConfigError(path + ":" + std::to_string(number) + ": needs two names, '<current> <old>'");
    }
    map[current] = old;
  }
  return map;
}

}  // namespace anneal::checkpoint
