// Files that are written to the disk before anything relies on them, and files mapped for reading.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace anneal::checkpoint {

/// What a written file is, for a manifest.
struct FileDigest {
  int64_t bytes = 0;
  uint32_t crc32 = 0;  ///< CRC-32 (as zip and zlib have it) of the whole file
  bool operator==(const FileDigest&) const = default;
};

/// A new file being written. Every call throws TemporaryError naming the file when the disk is full or fails; what is
/// there by then stays (the folder is temporary).
class SyncedFile {
 public:
  explicit SyncedFile(const std::string& path);
  ~SyncedFile();
  SyncedFile(const SyncedFile&) = delete;
  SyncedFile& operator=(const SyncedFile&) = delete;

  void Write(const void* data, int64_t bytes);
  int64_t bytes() const { return digest_.bytes; }  ///< written so far
  /// Syncs and closes.
  FileDigest Finish();

 private:
  std::string path_;
  int fd_ = -1;
  FileDigest digest_;
};

/// Writes bytes to a new file and syncs it.
FileDigest WriteFileSynced(const std::string& path, const std::string& bytes);
/// Replaces a file whole or not at all: temporary name, sync, rename, sync of the folder. When `write` throws, nothing
/// of it stays.
void ReplaceFile(const std::string& path, const std::function<void(SyncedFile&)>& write);
void ReplaceFile(const std::string& path, const std::string& bytes);
/// Syncs a folder's entries.
void SyncFolder(const std::string& path);
/// CRC-32 and size of bytes in memory.
FileDigest Digest(const std::string& bytes);
/// CRC-32 and size by reading the file. Throws DataError when it cannot be read.
FileDigest DigestFile(const std::string& path);

/// The one process that writes into a folder, as long as this lives. Where the file system knows no locks (NFS, for
/// one), anybody is that process.
class FolderLock {
 public:
  /// Makes the folder where it is missing. Throws ConfigError when it is none, TemporaryError when another process
  /// holds it for longer than `wait`, which is told by `say`, or it cannot be made. `what`: for messages, "model_dir".
  FolderLock(const std::string& what, const std::string& path, std::chrono::seconds wait,
             const std::function<void(const std::string&)>& say);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

/// A whole file in memory, read-only. Throws DataError naming the file when it cannot be read.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const char* data() const { return static_cast<const char*>(map_); }
  size_t size() const { return size_; }

 private:
  void* map_ = nullptr;
  size_t size_ = 0;
};

}  // namespace anneal::checkpoint
