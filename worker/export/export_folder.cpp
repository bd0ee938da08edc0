#include "worker/export/export_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "worker/config/error.h"
#include "worker/train/checkpoint/files.h"

namespace anneal::exporting {
namespace {

namespace fs = std::filesystem;

void Sync(const fs::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = fd >= 0 && ::fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (!synced) throw TemporaryError("cannot write " + file.string() + ": " + std::strerror(error));
}

}  // namespace

ExportFolder::ExportFolder(const std::string& target) {
  if (target.empty()) throw ConfigError("--export_dir is missing");
  if (fs::exists(target)) throw ConfigError("directory " + target + " already exist.");
  target_ = fs::absolute(target).lexically_normal();
  if (!target_.has_filename()) target_ = target_.parent_path();  // "out/"
  work_ = target_.parent_path() / ("." + target_.filename().string() + ".unfinished");
  path_ = work_ / "export";
  const auto cannot = [this](const std::string& why) {
    return TemporaryError("cannot make " + work_.string() + ": " + why);
  };
  std::error_code error;
  fs::create_directories(work_, error);
  if (error) throw cannot(error.message());
  lock_ = ::open(work_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // A file system without locks does not keep anybody from exporting.
  if (lock_ >= 0 && ::flock(lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(lock_);
    throw ConfigError("another process is exporting to " + target_.string());
  }
  for (const auto& entry : fs::directory_iterator(work_, error)) fs::remove_all(entry.path(), error);
  if (!fs::create_directory(path_, error)) {
    if (lock_ >= 0) ::close(lock_);
    throw cannot(error.message());
  }
}

ExportFolder::~ExportFolder() {
  std::error_code ignored;
  fs::remove_all(work_, ignored);
  if (lock_ >= 0) ::close(lock_);
}

void ExportFolder::BeginSync() const {
  for (const auto& entry : fs::recursive_directory_iterator(path_)) {
    const int fd = entry.is_regular_file() ? ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) continue;
    ::sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    ::close(fd);
  }
}

void ExportFolder::Commit() {
  for (const auto& entry : fs::recursive_directory_iterator(path_)) {
    entry.is_directory() ? checkpoint::SyncFolder(entry.path()) : Sync(entry.path());
  }
  checkpoint::SyncFolder(path_);
  std::error_code error;
  fs::rename(path_, target_, error);
  if (error) throw TemporaryError("cannot move " + path_.string() + " to " + target_.string() + ": " + error.message());
  checkpoint::SyncFolder(target_.parent_path());
}

}  // namespace anneal::exporting
