#include "worker/train/start.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"
#include "worker/train/progress/log.h"

namespace anneal::train {

StartPoint FindStart(const TrainOptions& options, const tzrec::protos::EasyRecConfig& config,
                     dist::ProcessGroup& group) {
  const std::string& model_dir = config.model_dir();
  std::string path = config.train_config().fine_tune_checkpoint();
  if (!path.empty()) {
    const auto found = checkpoint::Latest(path, LogWarning);
    if (!found) throw ConfigError("fine_tune_checkpoint[" + path + "] not exists.");
    path = *found;
  }
  int64_t newest = -1;
  if (group.rank() == 0) {
    checkpoint::RemoveUnfinished(model_dir);
    if (const auto found = checkpoint::Latest(model_dir, LogWarning)) newest = checkpoint::StepOf(*found);
  }
  at::Tensor told = at::full({1}, newest, at::kLong);
  group.Broadcast(told, 0);
  newest = told.item<int64_t>();
  if (newest >= 0 && !options.continue_train) {
    throw ConfigError("model_dir[" + model_dir + "] already has checkpoint model.ckpt-" + std::to_string(newest) +
                      "; pass --continue_train to go on from it or choose another model_dir");
  }
  StartPoint start;
  start.resume = newest >= 0;
  start.last_step = newest;
  if (start.resume) path = checkpoint::CheckpointPath(model_dir, newest);
  if (path.empty()) return start;
  if (group.rank() == 0) LogInfo("Restoring checkpoint from " + path + "...");
  start.checkpoint = std::make_unique<checkpoint::Reader>(path);
  if (!start.resume && config.train_config().has_fine_tune_ckpt_param_map()) {
    start.names = checkpoint::ReadParamMap(config.train_config().fine_tune_ckpt_param_map());
  }
  return start;
}

}  // namespace anneal::train
