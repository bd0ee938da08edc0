#include "worker/export/export.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "worker/config/error.h"
#include "worker/config/pipeline.h"
#include "worker/data/file_list.h"
#include "worker/eval/evaluator.h"
#include "worker/eval/model_state.h"
#include "worker/eval/threads.h"
#include "worker/eval/trained_model.h"
#include "worker/export/assets.h"
#include "worker/export/checkpoint_choice.h"
#include "worker/export/compiled.h"
#include "worker/export/compiler.h"
#include "worker/export/distributed.h"
#include "worker/export/export_folder.h"
#include "worker/export/rtp.h"
#include "worker/export/torchscript.h"
#include "worker/export/verify.h"
#include "worker/features/fg_json.h"
#include "worker/io/digest.h"
#include "worker/io/publish.h"
#include "worker/models/match_towers.h"
#include "worker/train/checkpoint/files.h"
#include "worker/train/progress/log.h"
#include "worker/train/progress/progress.h"

namespace anneal::exporting {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t kVerifyBatches = 20;
constexpr int64_t kMetricBatches = 200;

ordered_json ModelAcc(const Settings& settings, const std::string& additional) {
  ordered_json acc = {{"SPARSE_INT64", "1"}};
  for (const auto& [name, value] : settings.acceleration) acc[name] = value;
  if (additional.empty()) return acc;
  const ordered_json more = ordered_json::parse(additional, nullptr, false);
  if (!more.is_object()) throw ConfigError("--additional_export_config is not a JSON object");
  for (const auto& [key, value] : more.items()) acc[key] = value;
  return acc;
}

/// --asset_files. One that is called fg.json replaces ours (parity/export.md 10, 11); no other file is replaced.
void CopyAssets(const std::string& list, const fs::path& folder) {
  std::istringstream files(list);
  for (std::string file; std::getline(files, file, ',');) {
    if (file.empty()) continue;
    const fs::path name = fs::path(file).filename();
    std::error_code error;
    if (name == "export_report.json")
      throw ConfigError("--asset_files: " + file + ": the export writes a file of that name itself");
    fs::copy_file(file, folder / name,
                  name == "fg.json" ? fs::copy_options::overwrite_existing : fs::copy_options::none, error);
    if (error) throw ConfigError("--asset_files: cannot copy " + file + ": " + error.message());
  }
}

/// Metrics of the evaluation data, or why there are none. A metric that is not a number becomes null.
ordered_json Metrics(eval::TrainedModel& model, const std::string& rows, dist::ProcessGroup& group) {
  eval::EvaluationSettings settings;
  settings.num_steps = kMetricBatches;
  settings.log = false;
  ordered_json metrics;
  try {
    data::BatchStream stream = OpenRows(model.config(), model.features(), rows, data::Mode::kEval);
    for (const auto& [name, value] : eval::Evaluate(model.network(), model.embedding(), stream, group, settings))
      metrics[name] = value;
  } catch (const Error& error) {
    // Rows to compare on need no labels.
    return std::string("none: ") + error.what();
  }
  return metrics;
}

/// An artefact that answers as its model does is of no use where that answers NaN.
void RefuseWhatIsNoNumber(const Answers& answers, const std::string& rows) {
  for (const auto& [name, values] : answers.values) {
    const int64_t bad = values.numel() - at::isfinite(values).sum().item<int64_t>();
    if (bad == 0) continue;
    const std::string what = "the trained model's output " + name + " is no finite number in " + std::to_string(bad) +
                             " of " + std::to_string(values.numel()) + " places on " + rows;
    if (bad == values.numel()) throw DataError(what + ": it is not exported");
    LogWarning(what);
  }
}

/// Compares the artefact with the model; the report says whether it passed.
///
/// Rounding of tables is wanted, so the artefact is held against the model with its tables rounded alike; what the
/// rounding costs is reported beside it.
Difference Check(eval::TrainedModel& model, const Settings& settings, const ExportOptions& options,
                 const std::string& folder, const std::string& rows, dist::ProcessGroup& group, ordered_json& report) {
  Answers expected = Ask(model, rows, kVerifyBatches);
  RefuseWhatIsNoNumber(expected, rows);
  const models::Network& network = model.network();
  const bool judged = !network.loss_names().empty() || !network.own_metric_names().empty();
  ordered_json metrics = judged ? Metrics(model, rows, group) : "none: of a part alone";
  const bool sequences = !model.network().plan().sequence_groups.empty() && settings.sequence != TableType::kFp32;
  if (settings.pooled != TableType::kFp32 || settings.dist_quant || sequences) {
    const char* type = settings.dist_quant ? "INT8" : TableTypeName(settings.pooled);
    ordered_json loss = {{"pooled_tables", type}};
    if (sequences) loss["sequence_tables"] = TableTypeName(settings.sequence);
    RoundTables(model, settings);
    const Answers rounded = Ask(model, rows, kVerifyBatches);
    const Difference lost = Compare(expected, rounded);
    loss["max_abs_diff"] = lost.max;
    loss["mean_abs_diff"] = lost.mean;
    loss["metrics_before"] = metrics;
    if (metrics.is_object()) metrics = Metrics(model, rows, group);
    loss["metrics_after"] = metrics;
    report["quantization"] = loss;
    std::ostringstream text;
    text << "tables as " << type
         << (sequences ? std::string(", those of sequences as ") + TableTypeName(settings.sequence) : "")
         << ": outputs move by " << lost.max << " at most, " << lost.mean << " on average";
    LogInfo(text.str());
    expected = rounded;
  }
  // What is published later has to be what is checked now; hashed before, or a file could be damaged in between.
  report["files"] = io::HashFiles(folder);
  const Difference difference = VerifyInFreshProcess(options.program, folder, rows, expected, settings.compiler_python);
  const bool passed = difference.max <= options.verify_max_abs_diff;
  const auto number = [](double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json("inf"); };
  report["metrics"] = metrics;
  report["batches"] = expected.batches;
  report["rows"] = expected.rows;
  report["max_abs_diff"] = number(difference.max);
  report["mean_abs_diff"] = number(difference.mean);
  report["limit"] = options.verify_max_abs_diff;
  report["passed"] = passed;
  if (settings.format == Format::kRtp) report["files"].erase("pipeline.config");  // was there for the check only
  std::ostringstream text;
  text << difference.max << " on " << expected.rows << " rows";
  if (passed) LogInfo("verified in a fresh process: largest difference " + text.str());
  return difference;
}

void WriteModel(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
                const std::string& folder) {
  switch (settings.format) {
    case Format::kAot:
      return WriteAot(model, sample, settings, folder);
    case Format::kAotUnified:
      return WriteAotUnified(model, sample, settings, folder);
    case Format::kOnnx:
    case Format::kTensorRt:
      return WriteOnnx(model, sample, settings, folder);
    case Format::kDistributed:
      return WriteDistributed(model, sample, settings, folder);
    case Format::kRtp:
      return WriteRtp(model, sample, settings, folder);
    default:
      return WriteTorchScript(model, sample, settings, folder);
  }
}

/// What export_config.mixed_precision says (parity/export.md 1): AOT packages compute in it, and the trained model has
/// to do alike to be compared. A TensorRT engine is made in it from the float32 ONNX model.
void UseMixedPrecision(eval::TrainedModel& model, const Settings& settings) {
  const std::string& wanted = model.config().export_config().mixed_precision();
  const std::string& trained = model.config().train_config().mixed_precision();
  if (wanted != trained) {
    LogWarning("export_config.mixed_precision '" + wanted + "' differs from train_config's '" + trained + "'");
  }
  const auto type = nn::MixedPrecisionType(wanted, "export_config.mixed_precision");
  const bool compiled = settings.format == Format::kAot || settings.format == Format::kAotUnified;
  model.network().set_autocast(compiled ? type : std::nullopt);
}

/// An exported config names the primary key of each sequence (parity/features.md 5).
void NameSequenceKeys(tzrec::protos::EasyRecConfig& config) {
  for (auto& one : *config.mutable_feature_configs()) {
    if (!one.has_sequence_feature() || one.sequence_feature().has_sequence_pk()) continue;
    auto& sequence = *one.mutable_sequence_feature();
    sequence.set_sequence_pk("user:" + sequence.sequence_name());
  }
}

/// Row servers and RTP get no sequences yet; TorchScript exports alone know codes, and sequences that are not padded.
void CheckFormat(const tzrec::protos::EasyRecConfig& config, const Settings& settings) {
  if (config.model_config().has_sid_rqvae() && settings.format != Format::kTorchScript) {
    throw ConfigError(std::string("--format ") + FormatName(settings.format) +
                      ": sid_rqvae is exported as TorchScript only, yet");
  }
  const auto& groups = config.model_config().feature_groups();
  const bool sequences = std::any_of(groups.begin(), groups.end(), [](const auto& group) {
    return group.group_type() == tzrec::protos::SEQUENCE || group.sequence_groups_size() > 0;
  });
  const bool jagged = std::any_of(groups.begin(), groups.end(), [](const auto& group) {
    return group.group_type() == tzrec::protos::JAGGED_SEQUENCE;
  });
  if (jagged && settings.format != Format::kTorchScript) {
    throw ConfigError(std::string("--format ") + FormatName(settings.format) +
                      ": not supported yet for a model with JAGGED_SEQUENCE groups; TorchScript is");
  }
  if (jagged && settings.input_tile != 0)
    throw ConfigError("INPUT_TILE: not supported yet for a model with JAGGED_SEQUENCE groups");
  if (sequences && (settings.format == Format::kRtp || settings.format == Format::kDistributed)) {
    throw ConfigError(std::string("--format ") + FormatName(settings.format) +
                      ": not supported yet for a model with sequence groups");
  }
}

/// Servers fold a ranker's candidates by the key that names their sequence (parity/export.md 1).
void CheckRanker(const tzrec::protos::EasyRecConfig& config, const std::string& additional) {
  const auto& model = config.model_config();
  if (!model.has_dlrm_hstu() && !model.has_ultra_hstu()) return;
  const json more = json::parse(additional, nullptr, false);
  if (!more.is_object() || !more.contains("cand_seq_pk")) {
    throw ConfigError(
        "a generative ranker is exported with --additional_export_config '{\"cand_seq_pk\": \"...\"}', the primary "
        "key of the candidates' sequence");
  }
}

/// The towers of a match model are exported one by one.
void CheckTowers(const tzrec::protos::EasyRecConfig& config, const Settings& settings,
                 const std::string& item_input_path) {
  if (models::MatchTowersOf(config.model_config()).empty()) {
    if (!item_input_path.empty()) throw ConfigError("--item_input_path is for match models, whose item tower reads it");
    return;
  }
  if (!item_input_path.empty()) data::ListFiles(item_input_path);
  if (settings.format == Format::kRtp || settings.format == Format::kDistributed ||
      settings.format == Format::kTensorRt) {
    throw ConfigError(std::string("--format ") + FormatName(settings.format) + ": not supported yet for match models");
  }
}

/// A model of the export: the whole one, one tower of a match model, a TDM's scorer, or its items.
struct Part {
  std::string name;   ///< of its folder below the export; empty: the export itself
  std::string tower;  ///< eval::LoadOptions::tower
  tzrec::protos::EasyRecConfig config;
  std::string rows;    ///< to trace it with and to compare it on
  bool assets = true;  ///< has --asset_files
};

/// parity/export.md 2
std::vector<Part> PartsOf(const tzrec::protos::EasyRecConfig& config, const ExportOptions& options) {
  std::string rows = options.verify_input_path;
  if (rows.empty()) rows = config.eval_input_path().empty() ? config.train_input_path() : config.eval_input_path();
  std::vector<Part> parts;
  for (const models::MatchTower& tower : models::MatchTowersOf(config.model_config())) {
    const std::string name = tower.name.substr(0, tower.name.find('_'));
    const bool items = name == "item" && !options.item_input_path.empty();
    parts.push_back({name, tower.name, models::TowerConfig(config, tower), items ? options.item_input_path : rows});
  }
  if (config.model_config().has_tdm()) {
    parts.push_back({"model", "", config, rows});
    parts.push_back({"embedding", models::kItemEmbedding, models::ItemEmbeddingConfig(config), rows});
    parts.back().assets = false;
  }
  if (parts.empty()) parts.push_back({"", "", config, rows});
  return parts;
}

/// What the parts of an export have in common.
struct Run {
  const ExportOptions& options;
  const Settings& settings;
  const ExportFolder& folder;
  const std::string checkpoint;
  dist::ProcessGroup& group;
  const int threads;
};

struct Exported {
  std::string part;
  std::unique_ptr<eval::TrainedModel> model;  ///< null where nobody needs it any more
  ordered_json report;
  Difference difference;
};

/// Writes and checks one part.
Exported ExportPart(const Part& part, const Run& run) {
  const auto& [options, settings, folder, checkpoint, group, threads] = run;
  Exported exported{part.name, nullptr, {}, {}};
  exported.model =
      eval::TrainedModel::Load(part.config, checkpoint, group, threads,
                               {.use_dense_ema = eval::UsesDenseEma(part.config, part.config.export_config()),
                                .complete = true,
                                .tower = part.tower});
  eval::TrainedModel& model = *exported.model;
  const fs::path path = part.name.empty() ? folder.path() : folder.path() / part.name;
  const fs::path target = part.name.empty() ? folder.target() : folder.target() / part.name;
  fs::create_directories(path);
  {
    data::BatchStream sample_stream = OpenRows(model.config(), model.features(), part.rows);
    const auto sample = sample_stream.Next();
    if (!sample) throw DataError(part.rows + " has no rows to trace the model with");
    LogInfo("Exporting step " + std::to_string(model.step()) + " to " + target.string());
    WriteModel(model, *sample, settings, path);
    folder.BeginSync();
  }
  auto packed = part.config;
  NameSequenceKeys(packed);
  const auto assets = PackAssets(packed, path, target);
  config::SavePipelineConfig(packed, path / "pipeline.config");
  // RTP has an fg.json of its own and neither of the others; its config is taken away again when it is checked.
  const bool rtp = settings.format == Format::kRtp;
  if (!rtp) {
    checkpoint::WriteFileSynced(path / "fg.json", features::FgJson(part.config, {.assets = assets}).dump(4));
    checkpoint::WriteFileSynced(path / "model_acc.json", ModelAcc(settings, options.additional_export_config).dump(4));
  }
  if (part.assets) CopyAssets(options.asset_files, path);

  UseMixedPrecision(model, settings);
  exported.report = {{"format", FormatName(settings.format)},
                     {"step", model.step()},
                     {"checkpoint", model.checkpoint()},
                     {"config_sha256", io::FileSha256(path / "pipeline.config")}};
  exported.difference = Check(model, settings, options, path, part.rows, group, exported.report);
  if (rtp) fs::remove(path / "pipeline.config");
  return exported;
}

/// The parts' reports as one: each below "parts", with what counts for the whole beside it.
ordered_json JoinReports(const std::vector<Exported>& exported) {
  if (exported.front().part.empty()) return exported.front().report;
  ordered_json joined;
  for (const char* key : {"format", "step", "checkpoint"}) joined[key] = exported.front().report[key];
  joined["passed"] = true;
  for (const Exported& one : exported) {
    ordered_json report = one.report;
    for (const auto& [file, sha256] : report["files"].items()) joined["files"][one.part + "/" + file] = sha256;
    report.erase("files");
    if (report["passed"] == false) joined["passed"] = false;
    joined["parts"][one.part] = std::move(report);
  }
  return joined;
}

/// Writes export_report.json and returns the largest difference. Throws when a part differs from its model by more than
/// allowed; the report is then all that stays, as <export_dir>.rejected.json.
double WriteReport(const std::vector<Exported>& exported, const Run& run) {
  ordered_json report = JoinReports(exported);
  const auto& worst = std::max_element(exported.begin(), exported.end(), [](const auto& a, const auto& b) {
    return a.difference.max < b.difference.max;
  });
  report["max_abs_diff"] = worst->report["max_abs_diff"];
  const bool passed = report["passed"] == true;
  const std::string rejected = run.folder.target().string() + ".rejected.json";
  checkpoint::WriteFileSynced(passed ? (run.folder.path() / "export_report.json").string() : rejected, report.dump(2));
  if (!passed) {
    std::ostringstream text;
    text << worst->difference.max << " on " << worst->report["rows"] << " rows";
    throw Error(ExitCode::kInternal, "the exported model differs from the trained one by " + text.str() +
                                         "; nothing was published. See " + rejected);
  }
  return worst->difference.max;
}

}  // namespace

int RunExport(const ExportOptions& options) {
  config::Overrides overrides;
  overrides.edit_config_json = options.edit_config_json;
  const auto config = config::LoadForRun(options.pipeline_config_path, overrides);
  const Settings settings = ReadSettings(options.settings);
  if (settings.format == Format::kRtp) CheckRtp(config);
  Tf32Of(config, LogWarning);
  dist::Topology topology = dist::Topology::FromEnvironment();
  if (topology.world_size > 1) {
    LogWarning("an export runs in one process" +
               (topology.rank == 0 ? std::string(": WORLD_SIZE counts as 1")
                                   : "; rank " + std::to_string(topology.rank) + " has nothing to do"));
    if (topology.rank != 0) return 0;
  }
  topology.world_size = topology.local_world_size = 1;
  // A wrong destination or missing credentials are known before the work is done.
  if (!options.publish.uri.empty() && fs::exists(options.export_dir)) {
    throw ConfigError("directory " + options.export_dir +
                      " already exist. If an earlier try made it and could not publish it: "
                      "anneal publish " +
                      options.export_dir + " --publish_uri " + options.publish.uri);
  }
  ExportFolder folder(options.export_dir);
  const auto store = options.publish.uri.empty() ? nullptr : io::OpenStore(options.publish.uri, options.publish.s3);
  if (store) io::CheckOutside(options.export_dir, *store);
  const auto group = dist::Connect(topology, at::kCPU);
  CheckFormat(config, settings);
  CheckTowers(config, settings, options.item_input_path);
  CheckRanker(config, options.additional_export_config);
  train::ProgressServer server(true);
  train::Progress progress;
  progress.phase = "export";
  server.Update(progress);
  const Run run{
      options, settings, folder, ChooseCheckpoint(config, options.checkpoint_path), *group, eval::UseThreads(topology)};
  std::vector<Exported> exported;
  for (const Part& part : PartsOf(config, options)) {
    exported.push_back(ExportPart(part, run));
    progress.global_step = exported.back().model->step();
    server.Update(progress);
    if (settings.format != Format::kTensorRt) exported.back().model.reset();
  }
  const double difference = WriteReport(exported, run);
  if (settings.format == Format::kTensorRt) {
    try {
      WriteEngine(*exported.front().model, settings, folder.path());
    } catch (const Error& error) {
      folder.Commit();
      throw Error(error.code(), std::string("no TensorRT engine: ") + error.what() +
                                    ". The checked ONNX model is kept, nothing was published: " +
                                    (folder.target() / "dense.onnx").string());
    }
  }
  folder.Commit();

  train::TerminationMessage message;
  message.global_step = progress.global_step;
  message.metrics["max_abs_diff"] = difference;
  if (store) {
    const io::Published published = Release(folder.target(), *store);
    message.artifact_uri = published.uri;
    message.artifact_sha256 = published.sha256;
    message.artifact_bytes = published.bytes;
  }
  train::WriteTerminationMessage(message);
  LogInfo("Export Finished.");
  return 0;
}

}  // namespace anneal::exporting
