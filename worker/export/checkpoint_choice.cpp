#include "worker/export/checkpoint_choice.h"

#include <filesystem>

#include "worker/config/error.h"
#include "worker/eval/best_result.h"
#include "worker/train/checkpoint/checkpoint.h"

namespace anneal::exporting {

std::string ChooseCheckpoint(const tzrec::protos::EasyRecConfig& config, const std::string& given) {
  if (!given.empty()) return given;
  const auto& settings = config.export_config();
  if (settings.exporter_type() != "best" && settings.exporter_type() != "latest") {
    throw ConfigError("export_config.exporter_type: '" + settings.exporter_type() + "' is not latest or best");
  }
  const auto result = eval::FindBestResult(config);
  if (!result) return config.model_dir();
  const std::string best = checkpoint::CheckpointPath(config.model_dir(), result->step);
  if (!std::filesystem::exists(best)) {
    throw ConfigError("export_config.exporter_type best: " + best +
                      " is gone; keep more with train_config.keep_checkpoint_max, or give --checkpoint_path");
  }
  return best;
}

}  // namespace anneal::exporting
