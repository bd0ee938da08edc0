#include "worker/predict/predict.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <sstream>

#include "worker/config/error.h"
#include "worker/config/pipeline.h"
#include "worker/data/batch_stream.h"
#include "worker/data/file_list.h"
#include "worker/data/prediction_writer.h"
#include "worker/dist/device.h"
#include "worker/eval/model_state.h"
#include "worker/eval/threads.h"
#include "worker/eval/trained_model.h"
#include "worker/export/assets.h"
#include "worker/export/exported_model.h"
#include "worker/models/match_towers.h"
#include "worker/train/progress/console_progress.h"
#include "worker/train/progress/log.h"
#include "worker/train/progress/progress.h"

namespace anneal::predict {
namespace {

using tzrec::protos::EasyRecConfig;

std::vector<std::string> SplitList(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

tzrec::protos::DatasetType TypeNamed(const std::string& name, const char* flag) {
  std::string dataset = name;
  if (const size_t at = dataset.find("Writer"); at != std::string::npos) dataset.replace(at, 6, "Dataset");
  tzrec::protos::DatasetType type;
  if (!tzrec::protos::DatasetType_Parse(dataset, &type))
    throw ConfigError(std::string("--") + flag + " '" + name + "' is not known");
  return type;
}

/// Of a ranker, how many predictions each row of the batch has; empty: one.
std::vector<int64_t> RowLengths(const models::Predictions& predictions) {
  if (!predictions.candidates.defined()) return {};
  const at::Tensor counts = predictions.candidates.to(at::kLong).contiguous();
  const int64_t* first = counts.const_data_ptr<int64_t>();
  return {first, first + counts.numel()};
}

/// The predictions asked for, as columns; they refer to `row_lengths`, unless that is empty.
std::vector<data::OutputColumn> Columns(models::Predictions& predictions, const std::vector<std::string>& wanted,
                                        const std::vector<int64_t>& row_lengths) {
  std::vector<std::string> names = wanted;
  if (names.empty()) {
    for (const auto& [name, value] : predictions.values) names.push_back(name);
    std::sort(names.begin(), names.end());
  }
  std::vector<data::OutputColumn> columns;
  for (const std::string& name : names) {
    const auto found = std::find_if(predictions.values.begin(), predictions.values.end(),
                                    [&](const auto& p) { return p.first == name; });
    if (found == predictions.values.end()) {
      std::string known;
      for (const auto& [other, value] : predictions.values) known += (known.empty() ? "" : ", ") + other;
      throw ConfigError("--output_columns: the model has no output '" + name + "'; it has " + known);
    }
    at::Tensor& value = found->second;
    value = value.contiguous();
    data::OutputColumn column;
    column.name = name;
    if (value.scalar_type() == at::kLong) {
      column.ints = value.const_data_ptr<int64_t>();
    } else {
      value = value.to(at::kFloat);
      column.floats = value.const_data_ptr<float>();
    }
    column.rows = value.size(0);
    column.cols = value.dim() > 1 ? value.flatten(1).size(1) : 0;
    if (!row_lengths.empty()) column.row_lengths = &row_lengths;
    columns.push_back(column);
  }
  return columns;
}

/// What runs a batch: an exported model or a checkpoint.
struct Runner {
  EasyRecConfig config;
  std::unique_ptr<features::FeatureSet> own_features;
  const features::FeatureSet* features = nullptr;
  std::function<models::Predictions(const data::Batch&)> predict;
  int64_t step = -1;
  std::unique_ptr<eval::TrainedModel> trained;
  std::unique_ptr<exporting::ExportedModel> exported;
};

void OpenExported(const PredictOptions& options, Runner& runner) {
  auto loaded = exporting::LoadExportConfig(options.scripted_model_path);
  config::Overrides overrides;
  overrides.edit_config_json = options.edit_config_json;
  config::ApplyOverrides(loaded.config, overrides);
  runner.config = loaded.config;
  runner.exported = exporting::OpenExport(options.scripted_model_path);
}

}  // namespace

int RunPredict(const PredictOptions& options) {
  if (options.pipeline_config_path.empty() && options.scripted_model_path.empty()) {
    throw ConfigError("either --scripted_model_path or --pipeline_config_path is needed");
  }
  if (options.predict_input_path.empty()) throw ConfigError("--predict_input_path is missing");
  if (options.predict_output_path.empty()) throw ConfigError("--predict_output_path is missing");
  if (options.debug_level > 0) throw ConfigError("--debug_level: not supported yet");
  if (options.is_profiling) throw ConfigError("--is_profiling: not supported yet");
  const dist::Topology topology = dist::Topology::FromEnvironment();
  const auto group = dist::Connect(topology, dist::ChooseDevice(topology));
  const int threads = eval::UseThreads(topology);
  Runner runner;
  const bool from_checkpoint = !options.pipeline_config_path.empty();
  if (from_checkpoint) {
    if (!options.scripted_model_path.empty() && topology.rank == 0)
      LogWarning("--pipeline_config_path is given: its checkpoint predicts, --scripted_model_path is not used");
    config::Overrides overrides;
    overrides.edit_config_json = options.edit_config_json;
    runner.config = config::LoadForRun(options.pipeline_config_path, overrides);
    if (!models::MatchTowersOf(runner.config.model_config()).empty()) {
      throw ConfigError(
          "predict with a checkpoint is not for match models: export the towers and pass one of them, "
          "--scripted_model_path <export_dir>/user or /item");
    }
  } else {
    OpenExported(options, runner);
  }
  auto& data_config = *runner.config.mutable_data_config();
  if (!options.dataset_type.empty()) data_config.set_dataset_type(TypeNamed(options.dataset_type, "dataset_type"));
  if (options.batch_size > 0) {
    data_config.set_batch_size(static_cast<uint32_t>(options.batch_size));
    data_config.set_eval_batch_size(static_cast<uint32_t>(options.batch_size));
  }
  data_config.set_drop_remainder(false);
  if (from_checkpoint) {
    const std::string wanted = options.checkpoint_path.empty() ? runner.config.model_dir() : options.checkpoint_path;
    runner.trained = eval::TrainedModel::Load(runner.config, wanted, *group, threads,
                                              {eval::UsesDenseEma(runner.config, runner.config.export_config())});
    runner.trained->network().set_autocast(
        nn::MixedPrecisionType(runner.config.train_config().mixed_precision(), "train_config.mixed_precision"));
    runner.features = &runner.trained->features();
    runner.step = runner.trained->step();
  } else {
    runner.own_features = std::make_unique<features::FeatureSet>(features::FeatureSet::FromConfig(runner.config));
    runner.features = runner.own_features.get();
  }

  data::StreamOptions stream_options;
  stream_options.input_path = options.predict_input_path;
  stream_options.mode = data::Mode::kPredict;
  stream_options.num_workers = 1;  // several would take turns: rows would come in another order than the input's
  stream_options.rank = topology.rank;
  stream_options.world_size = topology.world_size;
  stream_options.reserved_columns = SplitList(options.reserved_columns);
  data::BatchStream stream(runner.config, *runner.features, stream_options);
  const auto writer = data::PredictionWriter::Open(
      options.writer_type.empty() ? data_config.dataset_type() : TypeNamed(options.writer_type, "writer_type"),
      options.predict_output_path, topology.rank);
  for (const std::string& file : data::ListFiles(options.predict_input_path)) {
    std::error_code none_yet;
    if (std::filesystem::equivalent(file, writer->path(), none_yet))
      throw ConfigError("--predict_output_path " + options.predict_output_path + ": " + writer->path() +
                        " is an input");
  }
  const auto outputs = SplitList(options.output_columns);

  train::ProgressServer server(topology.rank == 0);
  train::Progress progress;
  progress.phase = "predict";
  train::ConsoleProgress console(topology.local_rank == 0, 0, 11);
  const std::string description =
      "Predicting" + (runner.step >= 0 ? " model-" + std::to_string(runner.step) : std::string());
  const data::Batch nothing;
  bool open = true;
  for (int64_t step = 0; options.predict_steps <= 0 || step < options.predict_steps; ++step) {
    std::unique_ptr<data::Batch> batch = open ? stream.Next() : nullptr;
    open = batch != nullptr;
    models::Predictions predictions;
    if (runner.trained) {
      predictions = runner.trained->Predict(batch ? *batch : nothing);
      if (runner.trained->embedding().global_rows() == 0) break;
    } else if (batch) {
      predictions = runner.exported->Predict(*batch, *runner.features);
    }
    if (!batch) {
      if (runner.trained) continue;
      break;
    }
    const std::vector<int64_t> row_lengths = RowLengths(predictions);
    writer->Write(Columns(predictions, outputs, row_lengths), batch->reserved);
    progress.samples += batch->rows;
    server.Update(progress);
    stream.Recycle(std::move(batch));
    if (console.Due(step + 1)) console.Print(description, step + 1, "");
  }
  // All ranks commit, or none: one that failed has thrown and never gets here.
  const auto rows = group->AllGather(writer->rows());
  if (std::all_of(rows.begin(), rows.end(), [](int64_t r) { return r == 0; })) {
    throw DataError("Prediction input is empty; output was not committed.");
  }
  if (writer->rows() > 0) writer->Commit();
  LogLive("");
  LogInfo("Predict Finished: " + std::to_string(writer->rows()) + " rows" +
          (writer->rows() > 0 ? " in " + writer->path() : std::string()));
  return 0;
}

}  // namespace anneal::predict
