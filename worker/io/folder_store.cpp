// A folder as object store: a file is written beside its place, synced and renamed.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "worker/config/error.h"
#include "worker/io/object_store.h"
#include "worker/train/checkpoint/safetensors.h"

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
    const fs::path target = root_ / path, part = target.string() + ".part";
    MakeFolders(target.parent_path());
    std::ifstream in(file, std::ios::binary);
    if (!in) throw TemporaryError("cannot read " + file);
    const int out = ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool good = out >= 0;
    std::vector<char> buffer(kPiece);
    while (good && (in.read(buffer.data(), kPiece) || in.gcount() > 0)) {
      good = WriteAll(out, buffer.data(), in.gcount());
      if (good) sent(in.gcount());
    }
    good = good && ::fsync(out) == 0;
    const int error = errno;
    if (out >= 0) ::close(out);
    if (good && in.eof()) {
      good = ::rename(part.c_str(), target.c_str()) == 0;
      if (good) return checkpoint::SyncFolder(target.parent_path());
    }
    ::unlink(part.c_str());
    if (good) throw TemporaryError("cannot read " + file);
    throw TemporaryError("cannot write " + target.string() + ": " + std::strerror(error));
  }

  void PutText(const std::string& path, const std::string& text) override {
    const fs::path target = root_ / path;
    MakeFolders(target.parent_path());
    checkpoint::ReplaceFile(target, text);
  }

 private:
  static bool WriteAll(int file, const char* data, std::streamsize bytes) {
    while (bytes > 0) {
      const ssize_t written = ::write(file, data, static_cast<size_t>(bytes));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return false;
      data += written;
      bytes -= written;
    }
    return true;
  }

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
