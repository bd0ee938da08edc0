#include "worker/train/train.h"

#include <signal.h>

#include <atomic>

#include "worker/config/error.h"
#include "worker/config/pipeline.h"
#include "worker/train/progress/log.h"
#include "worker/train/trainer.h"
#include "worker/train/upload.h"

namespace anneal::train {
namespace {

std::atomic<bool> stop_asked{false};
static_assert(std::atomic<bool>::is_always_lock_free);

}  // namespace

int RunTrain(const TrainOptions& options) {
  config::Overrides overrides;
  overrides.fine_tune_checkpoint = options.fine_tune_checkpoint;
  overrides.train_input_path = options.train_input_path;
  overrides.eval_input_path = options.eval_input_path;
  overrides.model_dir = options.model_dir;
  overrides.edit_config_json = options.edit_config_json;
  const auto config = config::LoadForRun(options.pipeline_config_path, overrides);
  if (config.model_dir().empty()) throw ConfigError("model_dir is empty: set it in the config or pass --model_dir");
  const dist::Topology topology = dist::Topology::FromEnvironment();
  if (topology.rank == 0) LogInfo("Anneal version: " ANNEAL_VERSION);
  // A wrong destination or missing credentials are known before the work is done.
  const auto store =
      options.upload.uri.empty() || topology.rank != 0 ? nullptr : io::OpenStore(options.upload.uri, options.upload.s3);
  ::signal(SIGTERM, [](int) { stop_asked = true; });
  Trainer trainer(options, config, topology, stop_asked);
  const Outcome outcome = trainer.Run();
  TerminationMessage message = trainer.message();
  if (store && outcome == Outcome::kFinished) {
    trainer.ReportUpload();
    const io::Published published = UploadModel(config.model_dir(), *store);
    message.artifact_uri = published.uri;
    message.artifact_sha256 = published.sha256;
    message.artifact_bytes = published.bytes;
  }
  if (topology.rank == 0) WriteTerminationMessage(message);
  if (outcome == Outcome::kTerminated) return static_cast<int>(ExitCode::kTerminated);
  if (topology.local_rank == 0) LogInfo("Train and Evaluate Finished.");
  return 0;
}

}  // namespace anneal::train
