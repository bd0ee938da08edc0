// anneal: trains, evaluates, exports and runs recommender models from TorchEasyRec's pipeline.config.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <utility>

#include "worker/config/error.h"
#include "worker/config/pipeline.h"
#include "worker/config/source_map.h"
#include "worker/dist/launcher.h"
#include "worker/eval/eval.h"
#include "worker/eval/plan_command.h"
#include "worker/eval/trained_model.h"
#include "worker/export/bench_serve.h"
#include "worker/export/export.h"
#include "worker/export/verify.h"
#include "worker/predict/predict.h"
#include "worker/train/checkpoint/convert.h"
#include "worker/train/progress/log.h"
#include "worker/train/progress/progress.h"
#include "worker/train/train.h"

namespace {

/// TorchEasyRec's entry points ignore unknown flags; here they are named, and what is more likely a mistake is refused:
/// a flag that is nearly a known one, and a word that is no flag's value, such as the second file of a pattern.
void JudgeExtras(const CLI::App* command) {
  std::vector<std::string> known;
  for (const CLI::Option* option : command->get_options()) known.push_back(option->get_name());
  bool value_follows = false;
  for (const std::string& extra : command->remaining()) {
    const std::string flag = extra.substr(0, extra.find('='));
    if (!extra.starts_with("-")) {
      if (!std::exchange(value_follows, false))
        throw anneal::ConfigError("argument '" + extra +
                                  "' belongs to no flag (patterns have to be quoted: 'folder/*.parquet')");
      continue;
    }
    const auto meant = std::find_if(known.begin(), known.end(), [&](const std::string& name) {
      return (flag.size() > 4 && name.starts_with(flag)) || anneal::config::EditDistance(flag, name) <= 2;
    });
    if (meant != known.end())
      throw anneal::ConfigError("argument '" + flag + "' is not known; did you mean " + *meant + "?");
    anneal::LogWarning("argument '" + extra + "' is not known and ignored");
    value_follows = flag == extra;
  }
}

/// A flag that is given twice: the last one counts, as with Python's argparse.
void LastWins(CLI::App* command) { command->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast); }

void AddEdits(CLI::App* command, std::string& edits) {
  command->add_option("--edit_config_json", edits, "JSON object of config edits: path -> value");
}

void AddStore(CLI::App* command, anneal::io::S3Settings& s3) {
  command->add_option("--s3_endpoint", s3.endpoint,
                      "http(s)://host[:port] of an S3-compatible store (default: $AWS_ENDPOINT_URL_S3)");
  command->add_option("--s3_region", s3.region, "default: $AWS_REGION, us-east-1");
}

int Report(const char* reason, const std::string& message, anneal::ExitCode code) {
  anneal::LogLive("");
  anneal::LogError(message);
  anneal::train::TerminationMessage note;
  note.reason = reason;
  note.message = message;
  anneal::train::WriteTerminationMessage(note);
  return static_cast<int>(code);
}

const char* ReasonOf(anneal::ExitCode code) {
  switch (code) {
    case anneal::ExitCode::kConfig:
      return "ConfigInvalid";
    case anneal::ExitCode::kData:
      return "DataInvalid";
    case anneal::ExitCode::kPeer:
      return "PeerFailed";
    case anneal::ExitCode::kTemporary:
      return "Temporary";
    default:
      return "Error";
  }
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes fails a write, which is told, as a full disk is
  // malloc: Arrow's own allocator holds twice what the columns of a batch need.
  ::setenv("ARROW_DEFAULT_MEMORY_POOL", "system", /*overwrite=*/0);
  CLI::App app{"Trains, evaluates and exports recommender models from TorchEasyRec's pipeline.config."};
  app.set_version_flag("--version", "anneal " ANNEAL_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 done, 1 a fault of the program, 64 wrong config or arguments, 75 may pass by itself (full disk, "
      "storage),\n"
      "76 another rank failed, 78 wrong data, 143 stopped by SIGTERM after a checkpoint. COMMAND --help tells of its "
      "flags.");
  int status = 0;

  anneal::train::TrainOptions train;
  auto* train_command = app.add_subcommand("train", "train and evaluate (tzrec.train_eval)");
  LastWins(train_command);
  train_command->add_option("--pipeline_config_path", train.pipeline_config_path, "the config")->required();
  train_command->add_option("--model_dir", train.model_dir, "overrides model_dir");
  train_command->add_option("--train_input_path", train.train_input_path, "overrides train_input_path");
  train_command->add_option("--eval_input_path", train.eval_input_path, "overrides eval_input_path");
  train_command->add_option("--fine_tune_checkpoint", train.fine_tune_checkpoint,
                            "checkpoint, model_dir or .safetensors file to start from");
  AddEdits(train_command, train.edit_config_json);
  train_command->add_flag("--continue_train", train.continue_train, "go on from model_dir's newest checkpoint");
  train_command->add_flag("--ignore_restore_optimizer", train.ignore_restore_optimizer,
                          "restore the model without optimizer state");
  train_command->add_option("--sharding_plan", train.sharding_plan,
                            "plan file (a checkpoint's `plan`) instead of the planner");
  train_command->add_option("--upload_uri", train.upload.uri,
                            "file:///folder or s3://bucket/prefix to publish the last checkpoint to");

  anneal::eval::EvalOptions eval;
  auto* eval_command = app.add_subcommand("eval", "evaluate a checkpoint (tzrec.eval)");
  LastWins(eval_command);
  eval_command->add_option("--pipeline_config_path", eval.pipeline_config_path, "the config")->required();
  eval_command->add_option("--checkpoint_path", eval.checkpoint_path, "default: model_dir's newest checkpoint");
  eval_command->add_option("--eval_input_path", eval.eval_input_path, "overrides eval_input_path");
  eval_command->add_option("--eval_result_filename", eval.eval_result_filename, "in model_dir")->capture_default_str();
  AddEdits(eval_command, eval.edit_config_json);

  std::string publish_folder;
  auto* publish_command =
      app.add_subcommand("publish", "publish an export that is already there (export does it itself)");
  publish_command->add_option("FOLDER", publish_folder, "the export")->required();

  anneal::exporting::ExportOptions exporting;
  auto* export_command = app.add_subcommand("export", "export a checkpoint (tzrec.export)");
  LastWins(export_command);
  export_command->add_option("--pipeline_config_path", exporting.pipeline_config_path, "the config")->required();
  export_command->add_option("--checkpoint_path", exporting.checkpoint_path,
                             "default: as export_config.exporter_type says");
  export_command->add_option("--export_dir", exporting.export_dir, "folder to make")->required();
  export_command->add_option("--asset_files", exporting.asset_files, "comma list of files to put beside the model");
  export_command->add_option("--additional_export_config", exporting.additional_export_config,
                             "JSON object merged into model_acc.json");
  AddEdits(export_command, exporting.edit_config_json);
  export_command->add_option("--format", exporting.settings.format,
                             "TorchScript | AOT | AOTUnified | ONNX | TensorRT | RTP | Distributed (default: "
                             "ENABLE_AOT, ENABLE_TRT, USE_RTP, ...)");
  export_command->add_option("--quantization", exporting.settings.quantization,
                             "pooled tables: FP32 | FP16 | INT8 | INT4 | INT2 (default: $QUANT_EMB, INT8)");
  export_command->add_option("--sequence_quantization", exporting.settings.sequence_quantization,
                             "sequence tables (default: $QUANT_EC_EMB, FP32)");
  export_command->add_option("--input_tile", exporting.settings.input_tile, "0 | 1 | 2 | 3 (default: $INPUT_TILE, 0)");
  export_command->add_option(
      "--compiler_python", exporting.settings.compiler_python,
      "Python with torch that compiles AOT and ONNX models (default: $ANNEAL_COMPILER_PYTHON, python3)");
  export_command->add_option("--device", exporting.settings.device,
                             "AOT packages are compiled for: cpu | cuda (default: cpu)");
  export_command->add_option("--item_input_path", exporting.item_input_path,
                             "rows of items, for the item tower of a match model (default: those of the user tower)");
  export_command->add_option("--verify_input_path", exporting.verify_input_path,
                             "rows to compare on (default: eval_input_path)");
  export_command->add_option("--verify_max_abs_diff", exporting.verify_max_abs_diff, "largest difference allowed")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  anneal::exporting::Destination& destination = exporting.publish;
  for (auto* command : {export_command, publish_command}) {
    command->add_option("--publish_uri", destination.uri,
                        "file:///folder or s3://bucket/prefix to publish a version to");
    AddStore(command, destination.s3);
  }
  AddStore(train_command, train.upload.s3);

  anneal::exporting::VerifyOptions verify;
  auto* verify_command =
      app.add_subcommand("verify-export", "compare an export with the answers of its model (run by export)");
  verify_command->add_option("FOLDER", verify.folder, "the export")->required();
  verify_command->add_option("--input_path", verify.input_path, "rows")->required();
  verify_command->add_option("--expected", verify.expected, "safetensors file of the expected outputs")->required();
  verify_command->add_option("--compiler_python", verify.compiler_python, "runs ONNX models")->capture_default_str();
  verify_command->add_option("--report", verify.report, "JSON file to write")->required();

  anneal::exporting::BenchServeOptions bench;
  auto* bench_command = app.add_subcommand("bench-serve", "measure latency and throughput of an exported model");
  bench_command->add_option("FOLDER", bench.folder, "the export")->required();
  bench_command->add_option("--input_path", bench.input_path, "rows to ask (default: eval_input_path of its config)");
  bench_command->add_option("--batch_sizes", bench.batch_sizes, "rows of a call")
      ->delimiter(',')
      ->capture_default_str();
  bench_command->add_option("--threads", bench.threads, "callers at once")->delimiter(',')->capture_default_str();
  bench_command->add_option("--seconds", bench.seconds, "of each measurement")->capture_default_str();
  bench_command->add_option("--report", bench.report, "JSON file to write");

  anneal::predict::PredictOptions predict;
  auto* predict_command =
      app.add_subcommand("predict", "predict with an exported model or a checkpoint (tzrec.predict)");
  LastWins(predict_command);
  predict_command->add_option("--scripted_model_path", predict.scripted_model_path, "folder of an exported model");
  predict_command->add_option("--pipeline_config_path", predict.pipeline_config_path,
                              "config: predict with a checkpoint");
  predict_command->add_option("--checkpoint_path", predict.checkpoint_path, "default: model_dir's newest checkpoint");
  predict_command->add_option("--predict_input_path", predict.predict_input_path, "rows")->required();
  predict_command->add_option("--predict_output_path", predict.predict_output_path, "folder for part-<rank> files")
      ->required();
  predict_command->add_option("--reserved_columns", predict.reserved_columns,
                              "input columns to pass through, or ALL_COLUMNS");
  predict_command->add_option("--output_columns", predict.output_columns, "outputs to write (default: all)");
  predict_command->add_option("--batch_size", predict.batch_size, "rows per batch")->check(CLI::PositiveNumber);
  predict_command->add_option("--predict_threads", predict.predict_threads, "accepted");
  predict_command->add_flag("--is_profiling", predict.is_profiling, "not supported yet");
  predict_command->add_option("--debug_level", predict.debug_level, "not supported yet above 0");
  predict_command->add_option("--dataset_type", predict.dataset_type, "ParquetDataset or CsvDataset");
  predict_command->add_option("--writer_type", predict.writer_type, "ParquetWriter or CsvWriter");
  AddEdits(predict_command, predict.edit_config_json);
  predict_command->add_option("--predict_steps", predict.predict_steps, "stop after so many batches")
      ->check(CLI::NonNegativeNumber);

  anneal::checkpoint::ConvertOptions convert;
  auto* checkpoint_command = app.add_subcommand("checkpoint", "work on checkpoints");
  checkpoint_command->require_subcommand(1);
  auto* convert_command = checkpoint_command->add_subcommand(
      "convert", "to TorchEasyRec's format (torch.distributed.checkpoint) or from it");
  convert_command
      ->add_option("SOURCE", convert.source,
                   "model.ckpt-<step> of either kind, a model_dir (its newest), or a .safetensors file")
      ->required();
  convert_command->add_option("TARGET", convert.target, "model_dir in which model.ckpt-<step> is made")->required();
  convert_command->add_option("--to", convert.to, "dcp | safetensors")->required();

  std::vector<std::string> configs;
  anneal::config::Overrides overrides;
  auto* check_command = app.add_subcommand("check", "report every fault of pipeline.config files");
  check_command->add_option("CONFIG", configs, "pipeline.config files")->required();
  AddEdits(check_command, overrides.edit_config_json);

  anneal::eval::PlanOptions plan;
  auto* plan_command = app.add_subcommand("plan", "print where the tables would live on so many ranks");
  LastWins(plan_command);
  plan_command->add_option("--pipeline_config_path", plan.pipeline_config_path, "the config")->required();
  AddEdits(plan_command, plan.edit_config_json);
  plan_command->add_option("--nnodes", plan.nnodes, "nodes")->capture_default_str();
  plan_command->add_option("--nproc-per-node", plan.nproc_per_node, "processes of each node")->capture_default_str();
  plan_command->add_option("--memory-gib", plan.memory_gib, "memory of one process (default: this machine's share)");
  plan_command->add_option("--sharding_plan", plan.sharding_plan,
                           "a plan file to judge instead of the planner's choice");
  plan_command->add_option("--output", plan.output, "plan file to write, for train --sharding_plan");

  anneal::dist::LaunchOptions launch;
  auto* launch_command = app.add_subcommand(
      "launch", "run a command once per process of this node, e.g. launch --nproc-per-node 2 -- train ...");
  launch_command->add_option("--nnodes", launch.nnodes, "nodes (default: $NNODES, 1)");
  launch_command->add_option("--node-rank", launch.node_rank, "this node (default: $NODE_RANK, 0)");
  launch_command->add_option("--nproc-per-node", launch.nproc_per_node, "processes of this node")
      ->capture_default_str();
  launch_command->add_option("--master-addr", launch.master_addr, "host of rank 0 (default: $MASTER_ADDR, 127.0.0.1)");
  launch_command->add_option("--master-port", launch.master_port,
                             "port of rank 0 (default: $MASTER_PORT; one node: a free one)");
  launch_command->add_option("COMMAND", launch.command, "-- and what each process runs: train ...");

  for (auto* command : {train_command, eval_command, export_command, predict_command}) command->allow_extras();
  try {
    launch = anneal::dist::LaunchDefaults();
    if (argc > 1 && argv[1][0] != '-' &&
        app.get_subcommands([&](CLI::App* command) { return command->check_name(argv[1]); }).empty())
      throw anneal::ConfigError("there is no command '" + std::string(argv[1]) + "'; see anneal --help");
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : static_cast<int>(anneal::ExitCode::kConfig);
  } catch (const anneal::Error& error) {
    return Report(ReasonOf(error.code()), error.what(), error.code());
  }
  try {
    if (*train_command) {
      JudgeExtras(train_command);
      status = anneal::train::RunTrain(train);
    } else if (*eval_command) {
      JudgeExtras(eval_command);
      status = anneal::eval::RunEval(eval);
    } else if (*export_command) {
      JudgeExtras(export_command);
      status = anneal::exporting::RunExport(exporting);
    } else if (*publish_command) {
      status = anneal::exporting::RunPublish(publish_folder, exporting.publish);
    } else if (*verify_command) {
      status = anneal::exporting::RunVerify(verify);
    } else if (*bench_command) {
      status = anneal::exporting::RunBenchServe(bench);
    } else if (*predict_command) {
      JudgeExtras(predict_command);
      status = anneal::predict::RunPredict(predict);
    } else if (*convert_command) {
      status = anneal::checkpoint::RunConvert(convert);
    } else if (*plan_command) {
      status = anneal::eval::RunPlan(plan);
    } else if (*launch_command) {
      status = anneal::dist::Launch(launch);
    } else if (*check_command) {
      status = anneal::config::RunCheck(configs, overrides, anneal::eval::BuildOnce);
    }
  } catch (const anneal::Error& error) {
    return Report(ReasonOf(error.code()), error.what(), error.code());
  } catch (const std::exception& error) {
    return Report("Error", error.what(), anneal::ExitCode::kInternal);
  }
  return status;
}
