// The folder of an export while it is made: there whole or not at all.
#pragma once

#include <filesystem>
#include <string>

namespace anneal::exporting {

/// Everything is made in "<parent>/.<name>.unfinished/", which Commit moves to its place and the destructor removes.
/// What a killed run left there is removed by the next one.
class ExportFolder {
 public:
  /// Throws ConfigError when `target` is there already or another process is making it, TemporaryError naming the
  /// folder when it cannot be made.
  explicit ExportFolder(const std::string& target);
  ~ExportFolder();
  ExportFolder(const ExportFolder&) = delete;
  ExportFolder& operator=(const ExportFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }      ///< where the files go until then
  const std::filesystem::path& target() const { return target_; }  ///< absolute

  /// Lets the system write to the disk what is there so far, and does not wait: Commit has less to wait for.
  void BeginSync() const;
  /// Syncs every file and moves the folder to its place. Throws TemporaryError.
  void Commit();

 private:
  std::filesystem::path target_, work_, path_;
  int lock_ = -1;
};

}  // namespace anneal::exporting
