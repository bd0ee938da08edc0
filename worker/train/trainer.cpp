#include "worker/train/trainer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "worker/config/error.h"
#include "worker/config/pipeline.h"
#include "worker/eval/model_state.h"
#include "worker/eval/threads.h"
#include "worker/train/progress/log.h"

namespace anneal::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

uint64_t SeedOf(const char* variable) {
  const char* text = std::getenv(variable);
  return text && *text ? std::strtoull(text, nullptr, 10) : 0;
}

std::string Fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

void PrintPlan(const std::vector<embedding::PlannedTable>& tables,
               const std::vector<embedding::TablePlacement>& placements) {
  LogInfo("Sharding plan of " + std::to_string(tables.size()) + " tables:");
  for (size_t i = 0; i < tables.size(); ++i) {
    std::string ranks;
    for (const int rank : placements[i].ranks) ranks += (ranks.empty() ? "" : ",") + std::to_string(rank);
    LogInfo("  " + tables[i].name + "  " + std::to_string(tables[i].rows) + " x " + std::to_string(tables[i].dim) +
            "  " + embedding::ShardingTypeName(placements[i].type) + "  ranks " + ranks);
  }
}

}  // namespace

Trainer::Trainer(const TrainOptions& options, const tzrec::protos::EasyRecConfig& config,
                 const dist::Topology& topology, const std::atomic<bool>& stop)
    : config_(config),
      topology_(topology),
      stop_(stop),
      group_(dist::Connect(topology)),
      features_(features::FeatureSet::FromConfig(config_)),
      network_((at::manual_seed(SeedOf("TORCH_MANUAL_SEED")), config_), features_),
      server_(topology.rank == 0),
      model_dir_(config_.model_dir()) {
  const auto& train = config_.train_config();
  num_steps_ = train.num_steps();
  num_epochs_ = train.num_epochs();
  const auto tables = embedding::TablesOf(network_.plan());
  std::vector<embedding::TablePlacement> placements;
  if (options.sharding_plan.empty()) {
    placements = embedding::PlanTables(tables, train.global_embedding_constraints(), topology.world_size);
  } else {
    const json plan = json::parse(config::ReadTextFile(options.sharding_plan), nullptr, false);
    placements = embedding::PlanFromJson(plan, tables, topology.world_size, options.sharding_plan);
  }
  if (leader()) PrintPlan(tables, placements);
  const int threads = eval::UseThreads(topology);
  tables_ = std::make_unique<embedding::ShardedEmbedding>(
      network_.plan(), placements, embedding::MakeOptimizerSpec(train.sparse_optimizer()), *group_, threads);
  tables_->Initialize(SeedOf("TORCH_MANUAL_SEED"));
  dense_optimizer_ = optim::MakeDenseOptimizer(train.dense_optimizer(), network_.DenseParameters());
  engine_ = std::make_unique<Engine>(network_, *tables_, *dense_optimizer_, *group_, SeedOf("TORCH_MANUAL_SEED"));
  sparse_schedule_ = optim::MakeSchedule(train.sparse_optimizer(),
                                         embedding::SparseBaseLearningRate(train.sparse_optimizer()));
  dense_schedule_ = optim::MakeSchedule(train.dense_optimizer(), dense_optimizer_->base_learning_rate());
  Restore(options);
  console_ = std::make_unique<ConsoleProgress>(topology.local_rank == 0, step_ - 1);
  progress_.phase = "train";
  if (num_steps_ > 0) progress_.total_steps = num_steps_;
}

// Start rules: the newest checkpoint of model_dir when training is continued, else the fine-tune checkpoint. Numbering
// goes on only after a checkpoint of model_dir.
void Trainer::Restore(const TrainOptions& options) {
  std::map<std::string, int64_t> position;
  std::string warm_start = config_.train_config().fine_tune_checkpoint();
  if (!warm_start.empty()) {
    const auto found = checkpoint::Latest(warm_start, LogWarning);
    if (!found) throw ConfigError("fine_tune_checkpoint[" + warm_start + "] not exists.");
    warm_start = *found;
  }
  if (leader()) checkpoint::RemoveUnfinished(model_dir_);
  // Every rank has to take the same checkpoint: rank 0 looks and tells its step.
  int64_t newest = -1;
  if (leader()) {
    if (const auto found = checkpoint::Latest(model_dir_, LogWarning)) newest = checkpoint::StepOf(*found);
  }
  at::Tensor told = at::full({1}, newest, at::kLong);
  group_->Broadcast(told, 0);
  newest = told.item<int64_t>();
  if (newest >= 0 && !options.continue_train) {
    throw ConfigError("model_dir[" + model_dir_ + "] already has checkpoint model.ckpt-" + std::to_string(newest) +
                      "; pass --continue_train to go on from it or choose another model_dir");
  }
  const bool resume = newest >= 0;
  const std::string path = resume ? checkpoint::CheckpointPath(model_dir_, newest) : warm_start;
  if (!path.empty()) {
    LogInfo("Restoring checkpoint from " + path + "...");
    const checkpoint::Reader reader(path);
    eval::NameMap names;
    if (!resume && config_.train_config().has_fine_tune_ckpt_param_map()) {
      names = checkpoint::ReadParamMap(config_.train_config().fine_tune_ckpt_param_map());
    }
    LogInfo("Restoring model state from " + path);
    eval::RestoreModel(reader, network_, *tables_, names);
    const bool has_optimizer = fs::is_directory(path);
    if (!options.ignore_restore_optimizer && has_optimizer) {
      LogInfo("Restoring optimizer state from " + path);
      eval::RestoreOptimizer(reader, *dense_optimizer_, *tables_, names);
    }
    if (resume) {
      step_ = newest + 1;
      last_saved_step_ = newest;
      TakeTrainState(reader);
      position = TakePosition(reader);
    }
  }
  OpenStreams(position);
}

void Trainer::TakeTrainState(const checkpoint::Reader& reader) {
  const auto text = reader.file("train_state.json");
  const json state = json::parse(text.value_or("{}"), nullptr, false);
  if (!state.is_object()) throw DataError(reader.path() + "/train_state.json is not a JSON object");
  schedule_steps_ = state.value("schedule_steps", step_);
  epoch_schedule_steps_ = state.value("epoch_schedule_steps", int64_t{0});
  tables_->set_iteration(state.value("embedding_iteration", step_));
}

std::map<std::string, int64_t> Trainer::TakePosition(const checkpoint::Reader& reader) {
  std::map<std::string, int64_t> position;
  const json state = json::parse(reader.file("dataloader_state.json").value_or("{}"), nullptr, false);
  if (!state.is_object()) throw DataError(reader.path() + "/dataloader_state.json is not a JSON object");
  for (const auto& [key, value] : state.items()) {
    if (key == "__epochs_completed__") {
      epochs_completed_ = value.get<int64_t>();
    } else if (value.is_number_integer() && !key.starts_with("__")) {
      position[key] = value;
    }
  }
  position_ = position;
  return position;
}

void Trainer::OpenStreams(const std::map<std::string, int64_t>& position) {
  data::StreamOptions options;
  options.input_path = config_.train_input_path();
  options.rank = topology_.rank;
  options.world_size = topology_.world_size;
  options.seed = SeedOf("PYTHON_RANDOM_SEED");
  options.resume = position;
  if (options.input_path.empty()) throw ConfigError("train_input_path is empty");
  stream_ = std::make_unique<data::BatchStream>(config_, features_, options);
  if (config_.eval_input_path().empty()) return;
  options.input_path = config_.eval_input_path();
  options.mode = data::Mode::kEval;
  options.resume.clear();
  eval_stream_ = std::make_unique<data::BatchStream>(config_, features_, options);
}

void Trainer::WriteRunFiles() {
  group_->Barrier();
  if (!leader()) return;
  std::error_code error;
  fs::create_directories(model_dir_, error);
  if (error) throw TemporaryError("cannot make model_dir " + model_dir_ + ": " + error.message());
  config::SavePipelineConfig(config_, model_dir_ + "/pipeline.config");
  checkpoint::ReplaceFile(model_dir_ + "/version", std::string(ANNEAL_VERSION) + "\n");
  if (config_.train_config().use_tensorboard()) {
    events_ = std::make_unique<EventWriter>(model_dir_);
    if (eval_stream_) eval_events_ = std::make_unique<EventWriter>(model_dir_ + "/eval_val");
  }
}

Outcome Trainer::Run() {
  WriteRunFiles();
  Report(0);
  if (num_epochs_ > 0 && epochs_completed_ >= num_epochs_) {
    LogWarning("all " + std::to_string(num_epochs_) + " epochs are already done");
    return Outcome::kFinished;
  }
  if (num_steps_ > 0 && step_ >= num_steps_) {
    LogWarning("all " + std::to_string(num_steps_) + " steps are already done");
    message_.global_step = step_ - 1;
    return Outcome::kFinished;
  }
  bool stopped = false;
  for (int64_t pass = epochs_completed_; !stopped; ++pass) {
    // In step mode the data is read as often as needed and the epoch stays 0.
    const int64_t epoch = num_epochs_ > 0 ? pass : 0;
    stopped = RunPass(epoch);
    if (stopped) break;
    epochs_completed_ = pass + 1;
    position_.clear();
    if (step_ > 0 && EpochCheckpointDue(epoch)) SaveAndEvaluate(epoch);
    if (sparse_schedule_.by_epoch || dense_schedule_.by_epoch) ++epoch_schedule_steps_;
    if (num_epochs_ > 0 && epochs_completed_ >= num_epochs_) break;
    if (num_steps_ > 0 && step_ >= num_steps_) break;
    stream_->Rewind();
  }
  if (stopped && !(num_steps_ > 0 && step_ >= num_steps_)) {
    LogInfo("SIGTERM: writing a checkpoint at step " + std::to_string(step_ - 1));
    Save(epochs_completed_);
    message_.reason = "Terminated";
    return Outcome::kTerminated;
  }
  const int64_t epoch = num_epochs_ > 0 ? std::max<int64_t>(epochs_completed_ - 1, 0) : 0;
  if (!last_losses_.empty() && last_logged_step_ != step_ - 1) {
    LogStep(MeanLosses(last_losses_), sparse_rate_, dense_rate_, epoch);
  }
  if (last_saved_step_ != step_ - 1) {
    SaveAndEvaluate(epoch);
  } else {
    RewritePosition(epochs_completed_);
  }
  if (last_saved_step_ != step_ - 1) throw TemporaryError("the final checkpoint could not be written");
  if (events_) events_->Flush();
  message_.metrics = progress_.metrics;  // the last step's losses and the last evaluation
  LogLive("");
  return Outcome::kFinished;
}

// One pass over the data. True: training has to end (last step reached or stop asked).
bool Trainer::RunPass(int64_t epoch) {
  const data::Batch nothing;
  bool open = true;
  for (;;) {
    if (num_steps_ > 0 && step_ >= num_steps_) return true;
    std::unique_ptr<data::Batch> batch = open ? stream_->Next() : nullptr;
    open = batch != nullptr;
    const data::Batch& current = batch ? *batch : nothing;
    sparse_rate_ = sparse_schedule_.rate(sparse_schedule_.by_epoch ? epoch_schedule_steps_ : schedule_steps_);
    dense_rate_ = dense_schedule_.rate(dense_schedule_.by_epoch ? epoch_schedule_steps_ : schedule_steps_);
    const StepResult result = engine_->Step(current, step_, sparse_rate_, dense_rate_, stop_);
    if (result.ended) return false;
    if (batch) {
      for (const auto& [source, row] : batch->position) {
        auto [found, inserted] = position_.try_emplace(source, row);
        if (!inserted) found->second = std::max(found->second, row);
      }
      if (!result.losses.empty()) last_losses_ = result.losses;
      rows_since_report_ += tables_->global_rows();
      progress_.samples += current.rows;
      stream_->Recycle(std::move(batch));
    }
    AfterStep(result, epoch);
    if (result.stop_asked) return true;
  }
}

void Trainer::AfterStep(const StepResult& result, int64_t epoch) {
  const int64_t step = step_++;
  ++schedule_steps_;
  const int64_t period = config_.train_config().log_step_count_steps();
  const bool log = period > 0 && step % period == 0;
  if (log) LogStep(MeanLosses(result.losses.empty() ? last_losses_ : result.losses), sparse_rate_, dense_rate_, epoch);
  if (log || std::chrono::steady_clock::now() - last_report_ > std::chrono::seconds(1)) Report(epoch);
  if (StepCheckpointDue()) SaveAndEvaluate(epoch);
}

// The mean over ranks, so that a figure means the same on any number of them. A collective.
models::Losses Trainer::MeanLosses(const models::Losses& losses) {
  if (topology_.world_size == 1) return losses;
  const auto names = network_.loss_names();
  at::Tensor sums = at::zeros({static_cast<int64_t>(names.size()) + 1}, at::kDouble);
  for (size_t i = 0; i < losses.size(); ++i) sums[i] = losses[i].second.to(at::kDouble);
  if (!losses.empty()) sums[static_cast<int64_t>(names.size())] = 1;
  group_->AllReduceSum(sums);
  models::Losses mean;
  for (size_t i = 0; i < names.size(); ++i) {
    mean.emplace_back(names[i], sums[i] / sums[static_cast<int64_t>(names.size())]);
  }
  return mean;
}

void Trainer::LogStep(const models::Losses& losses, double sparse_rate, double dense_rate, int64_t epoch) {
  last_logged_step_ = step_ - 1;
  std::string suffix = "lr_g0:" + Fixed(sparse_rate, 5) + " lr_g1:" + Fixed(dense_rate, 5);
  double total = 0;
  for (const auto& [name, loss] : losses) {
    const double value = loss.item<double>();
    total += value;
    progress_.metrics[name] = value;
    suffix += " " + name + ":" + Fixed(value, 5);
    if (events_) events_->Scalar("loss/" + name, value, last_logged_step_);
  }
  progress_.metrics["loss"] = total;
  suffix += " total_loss: " + Fixed(total, 5);
  if (events_) {
    events_->Scalar("loss/total", total, last_logged_step_);
    events_->Scalar("lr/g0", sparse_rate, last_logged_step_);
    events_->Scalar("lr/g1", dense_rate, last_logged_step_);
  }
  if (console_->Due(last_logged_step_)) {
    console_->Print("Training Epoch " + std::to_string(epoch), last_logged_step_, suffix);
    if (events_) events_->Flush();
  }
}

void Trainer::Report(int64_t epoch) {
  const auto now = std::chrono::steady_clock::now();
  const double seconds = std::chrono::duration<double>(now - last_report_).count();
  if (rows_since_report_ > 0 && seconds > 0) {
    progress_.samples_per_second = static_cast<double>(rows_since_report_) / seconds;
    rows_since_report_ = 0;
    last_report_ = now;
  }
  progress_.global_step = std::max<int64_t>(step_ - 1, 0);
  progress_.epoch = epoch;
  progress_.data_wait_seconds = stream_->wait_seconds();
  if (progress_.total_steps < 0 && num_epochs_ > 0 && stream_->total_rows() > 0) {
    const int64_t batch = stream_->batch_size() * topology_.world_size;
    progress_.total_steps = num_epochs_ * ((stream_->total_rows() + batch - 1) / batch);
  }
  server_.Update(progress_);
}

bool Trainer::StepCheckpointDue() const {
  const auto& train = config_.train_config();
  const int64_t step = step_ - 1;
  return train.save_checkpoints_epochs() == 0 && train.save_checkpoints_steps() > 0 && step > 0 &&
         step % train.save_checkpoints_steps() == 0;
}

bool Trainer::EpochCheckpointDue(int64_t epoch) const {
  const int64_t every = config_.train_config().save_checkpoints_epochs();
  return every > 0 && (epoch + 1) % every == 0;
}

void Trainer::SaveAndEvaluate(int64_t epoch) {
  if (last_saved_step_ == step_ - 1) return RewritePosition(epochs_completed_);
  if (Save(epochs_completed_)) EvaluateNow(epoch);
}

// Positions of all ranks, merged by maximum. A collective.
std::string Trainer::DataloaderState(int64_t epochs_completed) {
  json state = json::object();
  for (const auto& [source, row] : position_) state[source] = row;
  const std::string mine = state.dump();
  for (const std::string& text : group_->AllGatherText(mine)) {
    const json other = json::parse(text);
    for (const auto& [source, row] : other.items()) {
      if (!state.contains(source) || state[source] < row) state[source] = row;
    }
  }
  if (num_epochs_ > 0) state["__epochs_completed__"] = epochs_completed;
  return state.dump(2);
}

bool Trainer::Save(int64_t epochs_completed) {
  const int64_t step = step_ - 1;
  checkpoint::Contents contents;
  contents.step = step;
  contents.model = eval::ModelPieces(network_, *tables_, topology_.rank);
  contents.optimizer = eval::OptimizerPieces(*dense_optimizer_, *tables_, topology_.rank);
  contents.files["dataloader_state.json"] = DataloaderState(epochs_completed);
  contents.files["plan"] =
      embedding::PlanToJson(models::kTablesPath, embedding::TablesOf(network_.plan()), tables_->placements()).dump();
  contents.files["train_state.json"] = json{{"schedule_steps", schedule_steps_},
                                            {"epoch_schedule_steps", epoch_schedule_steps_},
                                            {"embedding_iteration", tables_->iteration()},
                                            {"world_size", topology_.world_size}}
                                           .dump();
  LogLive("");
  if (leader()) LogInfo("Saving checkpoint to " + checkpoint::CheckpointPath(model_dir_, step) + "...");
  std::string problem;
  const std::string path = checkpoint::Save(
      model_dir_, contents, {topology_.rank, topology_.world_size, [this] { group_->Barrier(); }}, &problem);
  if (path.empty()) {
    // The run goes on: an older checkpoint is there, and the next save may work.
    LogError("checkpoint of step " + std::to_string(step) + " could not be written: " + problem);
    return false;
  }
  last_saved_step_ = step;
  progress_.checkpoint_step = step;
  progress_.checkpoint_path = path;
  message_.global_step = step;
  message_.checkpoint_step = step;
  message_.checkpoint_path = path;
  if (leader()) {
    for (const std::string& old : checkpoint::Prune(model_dir_, static_cast<int>(config_.train_config().keep_checkpoint_max()))) {
      LogInfo("Removing old checkpoint " + old + "...");
    }
  }
  server_.Update(progress_);
  return true;
}

// A step is saved once; a later boundary only brings the reading position and the pass count up to date.
void Trainer::RewritePosition(int64_t epochs_completed) {
  const std::string state = DataloaderState(epochs_completed);
  if (!leader() || last_saved_step_ < 0) return;
  checkpoint::RewriteFile(checkpoint::CheckpointPath(model_dir_, last_saved_step_), "dataloader_state.json", state);
}

void Trainer::EvaluateNow(int64_t epoch) {
  if (!eval_stream_) return;
  if (evaluated_) eval_stream_->Rewind();
  evaluated_ = true;
  const int64_t step = step_ - 1;
  eval::EvaluationSettings settings;
  settings.num_steps = config_.eval_config().num_steps();
  settings.log_step_count_steps = config_.eval_config().log_step_count_steps();
  settings.description = "Epoch-" + std::to_string(epoch) + " model-" + std::to_string(step);
  settings.log = topology_.local_rank == 0;
  const eval::Metrics metrics = eval::Evaluate(network_, *tables_, *eval_stream_, *group_, settings);
  for (const auto& [name, value] : metrics) {
    progress_.metrics[name] = value;
    message_.metrics[name] = value;
    if (eval_events_) eval_events_->Scalar("metric/" + name, value, step);
  }
  if (eval_events_) eval_events_->Flush();
  server_.Update(progress_);
  if (!leader()) return;
  LogLive("");
  LogInfo(eval::ResultLine(metrics, settings.description));
  eval::AppendResult(model_dir_ + "/train_eval_result_v2.txt", step, metrics);
}

}  // namespace anneal::train
