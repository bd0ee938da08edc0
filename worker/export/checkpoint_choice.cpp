#include "worker/export/checkpoint_choice.h"

#include <filesystem>
#include <vector>

#include "worker/config/error.h"
#include "worker/eval/best_result.h"
#include "worker/train/checkpoint/checkpoint.h"
#include "worker/train/progress/log.h"

namespace anneal::exporting {

std::string ChooseCheckpoint(const tzrec::protos::EasyRecConfig& config, const std::string& given) {
  const auto there = [](const std::string& path) {
    const auto found = checkpoint::Latest(path, LogWarning);
    if (!found) {
      throw ConfigError("checkpoint path should be specified." +
                        (path.empty() ? "" : " There is no checkpoint at " + path));
    }
    return *found;
  };
  if (!given.empty()) return there(given);
  const auto& settings = config.export_config();
  if (settings.exporter_type() != "best" && settings.exporter_type() != "latest") {
    throw ConfigError("export_config.exporter_type: '" + settings.exporter_type() + "' is not latest or best");
  }
  const auto result = eval::FindBestResult(config);
  if (!result) return there(config.model_dir());
  const std::string best = checkpoint::CheckpointPath(config.model_dir(), result->step);
  if (!std::filesystem::exists(best)) {
    throw ConfigError("export_config.exporter_type best: " + best +
                      " is gone; keep more with train_config.keep_checkpoint_max, or give --checkpoint_path");
  }
  return best;
}

void CheckComplete(eval::TrainedModel& model) {
  const checkpoint::Reader reader(model.checkpoint());
  std::vector<std::string> missing;
  const auto look_for = [&](const std::string& name) {
    if (!reader.has(name)) missing.push_back(name);
  };
  for (const auto& entry : model.network().DenseParameters()) look_for(entry.name);
  for (const auto& shard : model.embedding().weights()) look_for(shard.name);
  if (missing.empty()) return;
  throw ConfigError(model.checkpoint() + " lacks " + std::to_string(missing.size()) +
                    " of the model's parameters, the first is '" + missing.front() +
                    "': it is a checkpoint of another config");
}

}  // namespace anneal::exporting
