#include "worker/eval/eval.h"

#include <algorithm>
#include <filesystem>

#include "worker/config/error.h"
#include "worker/config/pipeline.h"
#include "worker/dist/device.h"
#include "worker/eval/evaluator.h"
#include "worker/eval/model_state.h"
#include "worker/eval/threads.h"
#include "worker/eval/trained_model.h"
#include "worker/train/progress/log.h"
#include "worker/train/progress/progress.h"
#include "worker/train/summary/event_writer.h"

namespace anneal::eval {

int RunEval(const EvalOptions& options) {
  config::Overrides overrides;
  overrides.eval_input_path = options.eval_input_path;
  overrides.edit_config_json = options.edit_config_json;
  const auto config = config::LoadForRun(options.pipeline_config_path, overrides);
  if (config.eval_input_path().empty())
    throw ConfigError("eval_input_path is empty: set it in the config or pass --eval_input_path");
  if (options.eval_result_filename.empty()) throw ConfigError("--eval_result_filename is empty");
  const dist::Topology topology = dist::Topology::FromEnvironment();
  const auto group = dist::Connect(topology, dist::ChooseDevice(topology), config.model_dir());
  const int threads = UseThreads(topology);
  const std::string wanted = options.checkpoint_path.empty() ? config.model_dir() : options.checkpoint_path;
  const auto model = TrainedModel::Load(config, wanted, *group, threads, {UsesDenseEma(config, config.eval_config())});
  UseTf32Flags(config.train_config());
  model->network().set_autocast(
      nn::MixedPrecisionType(config.train_config().mixed_precision(), "train_config.mixed_precision"));
  data::StreamOptions stream_options;
  stream_options.input_path = config.eval_input_path();
  stream_options.mode = data::Mode::kEval;
  stream_options.rank = topology.rank;
  stream_options.world_size = topology.world_size;
  data::BatchStream stream(config, model->features(), stream_options);

  train::ProgressServer server(topology.rank == 0);
  train::Progress progress;
  progress.phase = "eval";
  progress.global_step = model->step();
  EvaluationSettings settings;
  settings.num_steps = config.eval_config().num_steps();
  settings.log_step_count_steps = config.eval_config().log_step_count_steps();
  settings.description = "model-" + std::to_string(model->step());
  settings.log = topology.local_rank == 0;
  settings.progress = [&](int64_t, int64_t rows) {
    progress.samples = rows;
    server.Update(progress);
  };
  const Metrics metrics = Evaluate(model->network(), model->embedding(), stream, *group, settings);
  if (metrics.empty()) throw DataError("eval_input_path " + config.eval_input_path() + " has no rows");
  if (topology.rank != 0) return 0;
  LogLive("");
  LogInfo(ResultLine(metrics, settings.description));
  if (!config.model_dir().empty()) {
    const std::string result = std::filesystem::path(config.model_dir()) / options.eval_result_filename;
    if (!AppendResult(result, model->step(), metrics)) throw TemporaryError("cannot write the result to " + result);
    if (config.train_config().use_tensorboard()) {
      train::EventWriter events(config.model_dir() + "/eval");
      for (const auto& [name, value] : metrics) events.Scalar("metric/" + name, value, model->step());
    }
  }
  train::TerminationMessage message;
  message.global_step = model->step();
  for (const auto& [name, value] : metrics) message.metrics[name] = value;
  train::WriteTerminationMessage(message);
  return 0;
}

}  // namespace anneal::eval
