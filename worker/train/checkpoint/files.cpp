#include "worker/train/checkpoint/files.h"

#include <fcntl.h>
#include <libdeflate.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>
#include <vector>

#include "worker/config/error.h"

namespace anneal::checkpoint {
namespace {

[[noreturn]] void FailWrite(const std::string& path) {
  throw TemporaryError("cannot write " + path + ": " + std::strerror(errno));
}

/// The right to write a temporary file and to move it to its place; whoever else wants to waits. Where the file system
/// has no locks there is none.
class Turn {
 public:
  explicit Turn(const std::string& path) {
    const auto patience = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    for (;;) {
      fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
      if (fd_ < 0) FailWrite(path);
      if (::flock(fd_, LOCK_EX | LOCK_NB) == 0 ? IsStill(path) : errno != EWOULDBLOCK) return;
      ::close(fd_);
      if (std::chrono::steady_clock::now() > patience)
        throw TemporaryError("cannot write " + path + ": another process has been writing it for a minute");
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
  ~Turn() { ::close(fd_); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  /// Not moved or removed by the one before.
  bool IsStill(const std::string& path) const {
    struct stat mine {
    }, there{};
    return ::fstat(fd_, &mine) == 0 && ::stat(path.c_str(), &there) == 0 && mine.st_ino == there.st_ino &&
           mine.st_dev == there.st_dev;
  }
  int fd_;
};

}  // namespace

SyncedFile::SyncedFile(const std::string& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) FailWrite(path);
}

SyncedFile::~SyncedFile() {
  if (fd_ >= 0) ::close(fd_);
}

void SyncedFile::Write(const void* data, int64_t bytes) {
  if (bytes == 0) return;  // of a null pointer, the library gives the checksum of nothing
  const auto* at = static_cast<const char*>(data);
  digest_.crc32 = libdeflate_crc32(digest_.crc32, at, static_cast<size_t>(bytes));
  digest_.bytes += bytes;
  while (bytes > 0) {
    const ssize_t written = ::write(fd_, at, static_cast<size_t>(std::min<int64_t>(bytes, int64_t{1} << 30)));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) FailWrite(path_);
    at += written;
    bytes -= written;
  }
}

FileDigest SyncedFile::Finish() {
  if (::fsync(fd_) != 0) FailWrite(path_);
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0) FailWrite(path_);
  return digest_;
}

FileDigest WriteFileSynced(const std::string& path, const std::string& bytes) {
  SyncedFile writer(path);
  writer.Write(bytes.data(), static_cast<int64_t>(bytes.size()));
  return writer.Finish();
}

void ReplaceFile(const std::string& path, const std::function<void(SyncedFile&)>& write) {
  const std::string temporary = path + ".part";
  const Turn turn(temporary);
  try {
    SyncedFile file(temporary);
    write(file);
    file.Finish();
    if (::rename(temporary.c_str(), path.c_str()) != 0) FailWrite(path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  SyncFolder(std::filesystem::path(path).parent_path());
}

void ReplaceFile(const std::string& path, const std::string& bytes) {
  ReplaceFile(path, [&bytes](SyncedFile& file) { file.Write(bytes.data(), static_cast<int64_t>(bytes.size())); });
}

void SyncFolder(const std::string& path) {
  const int fd = ::open(path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) FailWrite(path);
  const int failed = ::fsync(fd);
  ::close(fd);
  if (failed != 0 && errno != EINVAL) FailWrite(path);  // EINVAL: a file system without folder sync
}

FileDigest Digest(const std::string& bytes) {
  return {static_cast<int64_t>(bytes.size()), libdeflate_crc32(0, bytes.data(), bytes.size())};
}

FileDigest DigestFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw DataError("cannot read " + path + ": " + std::strerror(errno));
  FileDigest digest;
  std::vector<unsigned char> buffer(4 << 20);
  for (;;) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int error = errno;
      ::close(fd);
      throw DataError("cannot read " + path + ": " + std::strerror(error));
    }
    if (got == 0) break;
    digest.crc32 = libdeflate_crc32(digest.crc32, buffer.data(), static_cast<size_t>(got));
    digest.bytes += got;
  }
  ::close(fd);
  return digest;
}

FolderLock::FolderLock(const std::string& what, const std::string& path, std::chrono::seconds wait,
                       const std::function<void(const std::string&)>& say) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error && std::filesystem::exists(path) && !std::filesystem::is_directory(path))
    throw ConfigError(what + " " + path + " is a file");
  if (error) throw TemporaryError("cannot make " + what + " " + path + ": " + error.message());
  fd_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd_ < 0) throw TemporaryError("cannot open " + what + " " + path + ": " + std::strerror(errno));
  const auto until = std::chrono::steady_clock::now() + wait;
  for (bool told = false;;) {
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
    if (std::chrono::steady_clock::now() >= until) break;
    if (!std::exchange(told, true)) say("another process trains in " + what + " " + path + ": waiting for its end");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  ::close(fd_);
  throw TemporaryError("another process trains in " + what + " " + path);
}

FolderLock::~FolderLock() { ::close(fd_); }

MappedFile::MappedFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw DataError("cannot read " + path + ": " + std::strerror(errno));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    throw DataError(path + ": is not a file");
  }
  size_ = static_cast<size_t>(info.st_size);
  if (size_ > 0) map_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  ::close(fd);
  if (map_ == MAP_FAILED) {
    map_ = nullptr;
    throw DataError("cannot map " + path + ": " + std::strerror(error));
  }
}

MappedFile::~MappedFile() {
  if (map_) ::munmap(map_, size_);
}

}  // namespace anneal::checkpoint
