#include "worker/train/start.h"

#include <ATen/ATen.h>

#include "worker/config/environment.h"
#include "worker/config/error.h"
#include "worker/train/progress/log.h"

namespace anneal::train {

namespace {

/// An old process may be on its way out: its lock goes with it. -1: no lock. The operator says so: it makes no attempt
/// beside another, and a lost node's process may hold a lock for as long as nobody reaches it.
int LockWait() { return config::EnvironmentInt("ANNEAL_LOCK_WAIT_SECONDS", 60, -1, 86400); }

}  // namespace

StartPoint FindStart(const TrainOptions& options, const tzrec::protos::EasyRecConfig& config,
                     dist::ProcessGroup& group) {
  const std::string& model_dir = config.model_dir();
  StartPoint start;
  const std::string& path = config.train_config().fine_tune_checkpoint();
  if (!path.empty()) {
    start.checkpoint = checkpoint::OpenLatest(path, LogWarning);
    if (!start.checkpoint) throw ConfigError("fine_tune_checkpoint[" + path + "] not exists.");
  }
  int64_t newest = -1;
  std::unique_ptr<checkpoint::Reader> found;
  if (group.rank() == 0) {
    if (const int wait = LockWait(); wait >= 0) {
      start.lock =
          std::make_unique<checkpoint::FolderLock>("model_dir", model_dir, std::chrono::seconds(wait), LogWarning);
    }
    checkpoint::RemoveUnfinished(model_dir);
    if ((found = checkpoint::OpenLatest(model_dir, LogWarning))) {
      newest = checkpoint::StepOf(found->path());
    } else if (const auto all = checkpoint::List(model_dir); !all.empty()) {
      throw DataError("no checkpoint in model_dir " + model_dir + " can be read (" + all.rbegin()->second +
                      "): mend it, or move it away to train from the start");
    }
  }
  at::Tensor told = at::full({1}, newest, at::kLong);
  group.Broadcast(told, 0);
  newest = told.item<int64_t>();
  if (newest >= 0 && !options.continue_train) {
    throw ConfigError("model_dir[" + model_dir + "] already has checkpoint model.ckpt-" + std::to_string(newest) +
                      "; pass --continue_train to go on from it or choose another model_dir");
  }
  start.resume = newest >= 0;
  start.last_step = newest;
  if (start.resume) {
    if (!found) found = std::make_unique<checkpoint::Reader>(checkpoint::CheckpointPath(model_dir, newest));
    start.checkpoint = std::move(found);
  }
  if (!start.checkpoint) return start;
  if (group.rank() == 0) LogInfo("Restoring checkpoint from " + start.checkpoint->path() + "...");
  if (!start.resume && config.train_config().has_fine_tune_ckpt_param_map()) {
    start.names = checkpoint::ReadParamMap(config.train_config().fine_tune_ckpt_param_map());
  }
  return start;
}

}  // namespace anneal::train
