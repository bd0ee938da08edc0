// A folder as object store: a file is written beside its place, synced and renamed.
#include <filesystem>
#include <fstream>
#include <vector>

#include "worker/config/error.h"
#include "worker/io/object_store.h"
#include "worker/train/checkpoint/files.h"

namespace anneal::io {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPiece = 4 << 20;

class FolderStore : public ObjectStore {
 public:
  explicit FolderStore(fs::path root) : root_(std::move(root)) {}

  std::string Uri(const std::string& path) const override { return "file://" + (root_ / path).string(); }

  std::optional<int64_t> Size(const std::string& path) override {
    std::error_code error;
    const auto size = fs::file_size(root_ / path, error);
    if (!error) return static_cast<int64_t>(size);
    if (error == std::errc::no_such_file_or_directory) return std::nullopt;
    throw TemporaryError("cannot read " + (root_ / path).string() + ": " + error.message());
  }

  void Read(const std::string& path, const std::function<void(std::string_view)>& piece) override {
    std::ifstream in(root_ / path, std::ios::binary);
    std::vector<char> buffer(kPiece);
    while (in.read(buffer.data(), kPiece) || in.gcount() > 0) {
      piece({buffer.data(), static_cast<size_t>(in.gcount())});
    }
    if (!in.eof()) throw TemporaryError("cannot read " + (root_ / path).string());
  }

  void Put(const std::string& path, const std::string& file, const std::function<void(int64_t)>& sent) override {
    const fs::path target = root_ / path;
    MakeFolders(target.parent_path());
    std::ifstream in(file, std::ios::binary);
    if (!in) throw TemporaryError("cannot read " + file);
    checkpoint::ReplaceFile(target, [&](checkpoint::SyncedFile& out) {
      std::vector<char> buffer(kPiece);
      while (in.read(buffer.data(), kPiece) || in.gcount() > 0) {
        out.Write(buffer.data(), in.gcount());
        sent(in.gcount());
      }
      if (!in.eof()) throw TemporaryError("cannot read " + file);
    });
  }

  void PutText(const std::string& path, const std::string& text) override {
    const fs::path target = root_ / path;
    MakeFolders(target.parent_path());
    checkpoint::ReplaceFile(target, text);
  }

 private:
  static void MakeFolders(const fs::path& folder) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) throw TemporaryError("cannot make " + folder.string() + ": " + error.message());
  }

  fs::path root_;
};

}  // namespace

std::unique_ptr<ObjectStore> OpenFolder(const std::string& folder) { return std::make_unique<FolderStore>(folder); }

}  // namespace anneal::io
