#include "worker/train/upload.h"

#include <torch/version.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/train/checkpoint/checkpoint.h"
#include "worker/train/progress/log.h"

namespace anneal::train {
namespace {

namespace fs = std::filesystem;

/// A folder of links to what is published, for as long as that takes.
class Selection {
 public:
  Selection() : folder_(fs::temp_directory_path() / ("anneal-upload-" + std::to_string(::getpid()))) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~Selection() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Selection(const Selection&) = delete;
  Selection& operator=(const Selection&) = delete;

  void Add(const fs::path& file, const fs::path& name) {
    fs::create_directories((folder_ / name).parent_path());
    fs::create_symlink(fs::absolute(file), folder_ / name);
  }
  std::string folder() const { return folder_; }

 private:
  const fs::path folder_;
};

}  // namespace

io::Published UploadModel(const std::string& model_dir, io::ObjectStore& store) {
  const auto checkpoint = checkpoint::OpenLatest(model_dir, LogWarning);
  if (!checkpoint) throw TemporaryError("there is no checkpoint in " + model_dir + " to upload");
  Selection selection;
  for (const char* name : {"pipeline.config", "train_eval_result_v2.txt"}) {
    if (fs::exists(fs::path(model_dir) / name)) selection.Add(fs::path(model_dir) / name, name);
  }
  const fs::path folder = checkpoint->path();
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_directory()) selection.Add(entry.path(), folder.filename() / entry.path().lexically_relative(folder));
  }
  const io::Published published =
      io::Publish(selection.folder(), store, {{"step", checkpoint->step()}, {"torch", TORCH_VERSION}});
  LogInfo("Uploaded " + folder.filename().string() + " to " + published.uri + " (" + std::to_string(published.bytes) +
          " bytes, " + std::to_string(published.sent) + " sent)");
  return published;
}

}  // namespace anneal::train
