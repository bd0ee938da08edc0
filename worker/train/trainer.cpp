#include "worker/train/trainer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "worker/config/error.h"
#include "worker/config/pipeline.h"
#include "worker/dist/device.h"
#include "worker/eval/model_state.h"
#include "worker/eval/threads.h"
#include "worker/eval/trained_model.h"
#include "worker/nn/arithmetic.h"
#include "worker/train/progress/log.h"
#include "worker/train/progress/step_times.h"
#include "worker/train/start.h"

namespace anneal::train {

namespace fs = std::filesystem;

namespace {

/// Its rows are in the last checkpoint: a run that is started again dumps them.
constexpr const char* kNotDumped = "the last delta embedding dump could not be written";

/// In seconds the year 5138; as milliseconds, 1973.
constexpr int64_t kNoSeconds = 100'000'000'000;

}  // namespace

Trainer::Trainer(const TrainOptions& options, const tzrec::protos::EasyRecConfig& config,
                 const dist::Topology& topology, const std::atomic<bool>& stop)
    : config_(config),
      topology_(topology),
      stop_(stop),
      group_(dist::Connect(topology, dist::ChooseDevice(topology), config_.model_dir())),
      features_(features::FeatureSet::FromConfig(config_)),
      profiler_(config_.train_config().is_profiling(), config_.model_dir() + "/train_eval_trace"),
      server_(topology.rank == 0) {
  eval::UseTf32Flags(config_.train_config());
  num_steps_ = config_.train_config().num_steps();
  num_epochs_ = config_.train_config().num_epochs();
  const int64_t accumulation = config_.train_config().gradient_accumulation_steps();
  if (leader() && num_steps_ > 0 && accumulation > num_steps_) {
    LogWarning("train_config.gradient_accumulation_steps: " + std::to_string(accumulation) +
               " are more than num_steps, " + std::to_string(num_steps_) + ": no dense parameter is trained");
  }
  if (leader()) eval::TellOfUnreadGroups(config_.model_config());
  const auto& quantizer = config_.model_config().sid_rqvae();
  if (config_.model_config().has_sid_rqvae() && quantizer.sinkhorn_config().enabled() &&
      quantizer.forward_mode() == "ste" && topology.world_size > 1) {
    throw ConfigError(
        "model_config.sid_rqvae.sinkhorn_config: sums over ranks are not supported yet: train in one "
        "process or set enabled: false");
  }
  StartPoint start = FindStart(options, config_, *group_);
  lock_ = std::move(start.lock);
  eval::PlanRequest plan;
  plan.given_name = options.sharding_plan;
  if (!options.sharding_plan.empty()) plan.given = config::ReadTextFile(options.sharding_plan);
  if (start.checkpoint) plan.saved = start.checkpoint->file("plan").value_or("");
  learner_ = std::make_unique<Learner>(config_, features_, *group_, topology, plan);
  if (config_.train_config().has_delta_embedding_dump_config()) {
    delta_ = std::make_unique<DeltaDump>(config_, features_, learner_->network().plan(), learner_->tables(), *group_);
  }
  if (start.checkpoint) {
    const checkpoint::Reader& reader = *start.checkpoint;
    LogInfo("Restoring model state from " + reader.path());
    learner_->RestoreModel(reader, start.names);
    learner_->RestoreEma(reader, start.names);
    if (!options.ignore_restore_optimizer && fs::is_directory(reader.path())) {
      LogInfo("Restoring optimizer state from " + reader.path());
      learner_->RestoreOptimizer(reader, start.names);
    }
    if (start.resume) {
      step_ = start.last_step + 1;
      learner_->RestoreState(reader, step_);
      if (delta_) delta_->Restore(reader);
      position_ = ReadPosition(reader);
      resumed_ = true;
    }
  }
  if (leader()) {
    LogInfo("threads: " + std::to_string(at::get_num_threads()) +
            ", linear layers: " + nn::Arithmetic::OfProcess().ToText());
  }
  if (SavesByEventTime(config_.train_config())) {
    event_saves_.emplace(config_.train_config());
    event_saves_->set_reference(position_.event_time);
  }
  first_step_ = step_;
  checkpoints_ = std::make_unique<RunCheckpoints>(config_, topology_, *group_, *learner_, start.last_step);
  OpenStreams();
  progress_.phase = "train";
  if (num_steps_ > 0) progress_.total_steps = num_steps_;
}

void Trainer::OpenStreams() {
  data::StreamOptions options;
  options.input_path = config_.train_input_path();
  options.rank = topology_.rank;
  options.world_size = topology_.world_size;
  options.seed = SeedOf("PYTHON_RANDOM_SEED");
  options.resume = position_.data;
  if (options.input_path.empty()) throw ConfigError("train_input_path is empty");
  options.event_times = event_saves_.has_value();
  stream_ = std::make_unique<data::BatchStream>(config_, features_, options);
  if (!stream_->exact()) TellOfInexactResume();
  position_.data.order = stream_->exact() ? stream_->order() : 0;
  if (leader() && event_saves_ && !stream_->has_event_times()) {
    LogWarning("the first file of train_input_path has no column " + std::string(data::kEventTimeColumn) +
               ": save_checkpoints_timestamp_interval and save_checkpoints_timestamps save nothing");
  }
  options.event_times = false;
  if (config_.eval_input_path().empty()) return;
  options.input_path = config_.eval_input_path();
  options.mode = data::Mode::kEval;
  options.resume = {};
  eval_stream_ = std::make_unique<data::BatchStream>(config_, features_, options);
}

void Trainer::TellOfInexactResume() {
  if (!leader()) return;
  const std::string path = config_.train_input_path();
  const auto& rows = position_.data.rows;
  const bool known =
      std::any_of(rows.begin(), rows.end(), [&](const auto& row) { return row.first.starts_with(path + ":"); });
  const std::string why =
      position_.data.order == 0
          ? "the checkpoint does not say in which order the data was read"
          : "the data, the number of ranks, data_config or PYTHON_RANDOM_SEED is not as it was when the "
            "checkpoint was written";
  if (known) {
    LogWarning(why + ": the pass goes on behind the rows that were read, in another order" +
               std::string(config_.data_config().shuffle() ? ", without the batches that shuffling held back" : ""));
  } else {
    const std::string other = rows.empty() ? ""
                                           : " (its reading position is of " +
                                                 rows.begin()->first.substr(0, rows.begin()->first.rfind(':')) + ")";
    LogWarning(why + other + ": train_input_path " + path + " is read from its beginning");
  }
}

void Trainer::WriteRunFiles() {
  group_->Barrier();
  const std::string& model_dir = config_.model_dir();
  if (leader()) {
    std::error_code error;
    fs::create_directories(model_dir, error);
    if (error) throw TemporaryError("cannot make model_dir " + model_dir + ": " + error.message());
    config::SavePipelineConfig(config_, model_dir + "/pipeline.config");
    checkpoint::ReplaceFile(model_dir + "/version", std::string(ANNEAL_VERSION) + "\n");
    if (config_.train_config().use_tensorboard() && eval_stream_) {
      eval_events_ = std::make_unique<EventWriter>(model_dir + "/eval_val");
    }
  }
  log_ = std::make_unique<StepLog>(config_.train_config(), model_dir, topology_, *learner_, step_ - 1);
}

Outcome Trainer::Run() {
  try {
    return Train();
  } catch (...) {
    // A save in work is whole when its thread is done. Of several ranks the others have to be there for that.
    if (topology_.world_size == 1) FinishSave();
    throw;
  }
}

Outcome Trainer::Train() {
  WriteRunFiles();
  Report(0);
  if (resumed_ && leader()) ReportBest();
  if (resumed_) EvaluateWhatWasNot();
  if (num_epochs_ > 0 && position_.data.pass >= num_epochs_) {
    LogWarning("all " + std::to_string(num_epochs_) + " epochs are already done");
    if (!LastDump()) throw TemporaryError(kNotDumped);
    return Outcome::kFinished;
  }
  if (num_steps_ > 0 && step_ >= num_steps_) {
    LogWarning("all " + std::to_string(num_steps_) + " steps are already done");
    if (!LastDump()) throw TemporaryError(kNotDumped);
    message_.global_step = step_ - 1;
    return Outcome::kFinished;
  }
  bool stopped = false;
  for (int64_t pass = position_.data.pass; !stopped; ++pass) {
    // In step mode the data is read as often as needed and the epoch stays 0.
    const int64_t epoch = num_epochs_ > 0 ? pass : 0;
    const bool whole = position_.data.batches == 0 && position_.data.rows.empty();
    stopped = RunPass(epoch);
    if (stopped) break;
    if (whole && position_.data.batches == 0) {
      throw DataError("train_input_path " + config_.train_input_path() + " has no rows to train on" +
                      (config_.data_config().drop_remainder()
                           ? ": data_config.drop_remainder leaves out what is not a whole batch"
                           : ""));
    }
    position_.data = {pass + 1, 0, stream_->order(), {}};
    if (EpochCheckpointDue(config_.train_config(), step_ - 1, epoch)) SaveAndEvaluate(epoch);
    learner_->rates().FinishPass();
    if (num_epochs_ > 0 && position_.data.pass >= num_epochs_) break;
    if (num_steps_ > 0 && step_ >= num_steps_) break;
    stream_->Rewind();
  }
  if (stopped && !(num_steps_ > 0 && step_ >= num_steps_)) {
    LogInfo("SIGTERM: writing a checkpoint at step " + std::to_string(step_ - 1));
    BeginSave();
    FinishSave();
    message_.reason = "Terminated";
    return Outcome::kTerminated;
  }
  const int64_t epoch = num_epochs_ > 0 ? std::max<int64_t>(position_.data.pass - 1, 0) : 0;
  const bool dumped = LastDump();
  if (step_ > first_step_ && last_logged_step_ != step_ - 1) {  // every rank decides alike
    LogStep(MeanLosses(last_losses_), epoch, /*last=*/true);
  }
  SaveAndEvaluate(epoch);
  FinishSave();
  if (checkpoints_->last_saved_step() != step_ - 1) throw TemporaryError("the final checkpoint could not be written");
  if (!dumped) throw TemporaryError(kNotDumped);
  log_->Flush();
  profiler_.Finish();
  message_.metrics = progress_.metrics;  // the last step's losses and the last evaluation
  LogLive("");
  return Outcome::kFinished;
}

namespace {

/// Whatever ends a pass, no batch goes while its ids are on their way.
class Prefetching {
 public:
  explicit Prefetching(embedding::ShardedEmbedding& tables) : tables_(tables) {}
  ~Prefetching() {
    try {
      tables_.DropPrefetch();
    } catch (const std::exception& error) {
      LogWarning(error.what());  // what ended the pass says more
    }
  }

 private:
  embedding::ShardedEmbedding& tables_;
};

}  // namespace

// One pass over the data. True: training has to end (last step reached or stop asked).
bool Trainer::RunPass(int64_t epoch) {
  const data::Batch nothing;
  bool open = true;
  const auto read = [&] {
    std::unique_ptr<data::Batch> batch = open ? stream_->Next() : nullptr;
    open = batch != nullptr;
    return batch;
  };
  std::unique_ptr<data::Batch> next;
  const Prefetching prefetching(learner_->tables());
  for (bool ahead = false;;) {
    if (num_steps_ > 0 && step_ >= num_steps_) return true;
    std::unique_ptr<data::Batch> batch = ahead ? std::move(next) : read();
    const data::Batch& current = batch ? *batch : nothing;
    // With several ranks the next batch's ids travel during this step. Every rank decides alike.
    ahead = topology_.world_size > 1 && !(num_steps_ > 0 && step_ + 1 >= num_steps_);
    if (ahead) next = read();
    const data::Batch* following = !ahead ? nullptr : next ? next.get() : &nothing;
    StepTimes::OfProcess().End(Phase::kWait);
    const Rates rates = learner_->rates().Current();
    group_->set_step(step_);
    const Votes votes{stop_, checkpoints_->written(), delta_ && delta_->MinutesOver()};
    const StepResult result = learner_->engine().Step(current, step_, rates, votes, following);
    if (result.ended) return false;
    ++position_.data.batches;
    if (delta_) delta_->Touch(current);
    rates_ = rates;
    learner_->metrics().Update(result.predictions, current);
    if (batch) {
      for (const auto& [source, row] : batch->position) {
        auto [found, inserted] = position_.data.rows.try_emplace(source, row);
        if (!inserted) found->second = std::max(found->second, row);
      }
      if (!result.losses.empty()) last_losses_ = result.losses;
      newest_event_ = batch->data_timestamp;
      rows_since_report_ += result.rows;
      progress_.samples += current.read;
      stream_->Recycle(std::move(batch));
    }
    if (result.all_saved) FinishSave();
    AfterStep(result, epoch);
    profiler_.FinishStep();
    StepTimes::OfProcess().EndStep(step_ - 1);
    if (result.stop_asked) return true;
  }
}

void Trainer::AfterStep(const StepResult& result, int64_t epoch) {
  const int64_t step = step_++;
  const int64_t period = config_.train_config().log_step_count_steps();
  const bool log = period > 0 && step % period == 0;
  if (log) LogStep(MeanLosses(result.losses.empty() ? last_losses_ : result.losses), epoch);
  if (log || std::chrono::steady_clock::now() - last_report_ > std::chrono::seconds(1)) Report(epoch);
  learner_->rates().FinishStep();
  if (delta_ && delta_->Due(step, result.dump_asked)) delta_->Dump(step);
  if (CheckpointDue(step)) SaveAndEvaluate(epoch);
}

// Collective where event times count: every rank asks after every step.
bool Trainer::CheckpointDue(int64_t step) {
  if (!event_saves_) return StepCheckpointDue(config_.train_config(), step);
  const std::vector<int64_t> events = group_->AllGather(newest_event_);
  event_saves_->Observe(events);
  const int64_t newest = *std::max_element(events.begin(), events.end());
  if (leader() && newest > kNoSeconds && !std::exchange(told_of_event_, true)) {
    LogWarning("column " + std::string(data::kEventTimeColumn) + " holds " + std::to_string(newest) +
               ", which is no Unix time in seconds (milliseconds?): checkpoints by event time come at other moments "
               "than asked for");
  }
  return StepCheckpointDue(config_.train_config(), step) || event_saves_->Due();
}

void Trainer::BeginSave() {
  std::map<std::string, std::string> files;
  if (delta_) files[DeltaDump::kFile] = delta_->State();
  position_.due_by_event_time = event_saves_ && event_saves_->Due();
  if (event_saves_) {
    event_saves_->Saved();
    position_.event_time = event_saves_->reference();
  }
  checkpoints_->Begin(step_ - 1, position_, std::move(files));
}

// The mean over the ranks that have rows, so that a figure means the same on any number of them; of losses that are
// weighed by a rank's share of all labels the mean over all ranks. A collective.
models::Losses Trainer::MeanLosses(const models::Losses& losses) {
  if (topology_.world_size == 1) return losses;
  auto names = learner_->network().training_loss_names();
  names.emplace_back(kTotalLoss);
  at::Tensor sums = at::zeros({static_cast<int64_t>(names.size()) + 1}, at::kDouble);
  for (size_t i = 0; i < losses.size(); ++i) sums[i] = losses[i].second.to(at::kDouble);
  if (!losses.empty() || learner_->network().weighs_ranks()) sums[static_cast<int64_t>(names.size())] = 1;
  group_->AllReduceSum(sums);
  models::Losses mean;
  for (size_t i = 0; i < names.size(); ++i) {
    mean.emplace_back(names[i], sums[i] / sums[static_cast<int64_t>(names.size())]);
  }
  return mean;
}

// The last step is logged once more without train metrics (parity/train.md 2).
void Trainer::LogStep(const models::Losses& losses, int64_t epoch, bool last) {
  last_logged_step_ = step_ - 1;
  eval::TellOfIdsOutside(learner_->tables());
  std::vector<std::pair<std::string, double>> values;
  double total = 0;
  for (const auto& [name, loss] : losses) {
    if (name == kTotalLoss) {
      total = loss.item<double>();
      continue;
    }
    values.emplace_back(name, loss.item<double>());
    progress_.metrics[name] = values.back().second;
  }
  progress_.metrics["loss"] = total;
  // With a scaler an overflow now and then is no harm, and it tells of many.
  if (leader() && !std::isfinite(total) && !learner_->engine().scaler() && !std::exchange(told_of_loss_, true)) {
    LogWarning("the loss of step " + std::to_string(last_logged_step_) +
               " is not finite: the model is probably lost (look at learning rates, gradient clipping, input values)");
  }
  log_->Write(last_logged_step_, epoch, values, total, rates_,
              last ? StepLog::Scalars() : learner_->metrics().Values());
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

// The final decision of a run whose last step is saved already only rewrites the reading position. The evaluation runs
// while the checkpoint is written.
void Trainer::SaveAndEvaluate(int64_t epoch) {
  const int64_t step = step_ - 1;
  if (checkpoints_->last_begun_step() == step) FinishSave();
  if (checkpoints_->last_saved_step() == step) return checkpoints_->RewritePosition(position_);
  BeginSave();
  EvaluateNow(epoch);
}

bool Trainer::FinishSave() {
  const int64_t before = checkpoints_->last_saved_step();
  if (!checkpoints_->Finish()) return false;
  if (checkpoints_->last_saved_step() == before) return true;
  message_.global_step = progress_.checkpoint_step = message_.checkpoint_step = checkpoints_->last_saved_step();
  message_.checkpoint_path = progress_.checkpoint_path = checkpoints_->last_path();
  server_.Update(progress_);
  return true;
}

// A kill between a checkpoint and the end of its evaluation loses no result: the next life makes it first. Collective.
void Trainer::EvaluateWhatWasNot() {
  const int64_t step = step_ - 1, passes = position_.data.pass;
  const bool pass_ended = passes > 0 && position_.data.batches == 0 && position_.data.rows.empty();
  const int64_t epoch = pass_ended ? passes - 1 : passes;
  const bool last = (num_steps_ > 0 && step_ >= num_steps_) || (num_epochs_ > 0 && passes >= num_epochs_);
  const bool due = last || position_.due_by_event_time || StepCheckpointDue(config_.train_config(), step) ||
                   (pass_ended && EpochCheckpointDue(config_.train_config(), step, num_epochs_ > 0 ? epoch : 0));
  if (!eval_stream_ || !due) return;
  at::Tensor missing = at::zeros({1}, at::kLong);
  if (leader()) missing[0] = eval::LastResultStep(eval::ResultPath(config_.model_dir())).value_or(-1) < step ? 1 : 0;
  group_->Broadcast(missing, 0);
  if (missing.item<int64_t>() == 0) return;
  LogInfo("Evaluating checkpoint of step " + std::to_string(step) + ", which has no result yet");
  EvaluateNow(num_epochs_ > 0 ? epoch : 0);
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
  // The averages of dense_optimizer.ema stand in for the live parameters meanwhile.
  optim::DenseEma* ema = eval::UsesDenseEma(config_, config_.eval_config()) ? learner_->engine().ema() : nullptr;
  if (ema) ema->Swap();
  eval::Metrics metrics;
  std::exception_ptr fault;
  try {
    metrics = eval::Evaluate(learner_->network(), learner_->tables(), *eval_stream_, *group_, settings);
  } catch (const DataError&) {
    fault = std::current_exception();
  }
  if (ema) ema->Swap();
  const bool saved = FinishSave();
  if (fault) std::rethrow_exception(fault);  // the checkpoint is not to blame
  if (!saved) return;                        // no result without its checkpoint
  if (metrics.empty()) {
    if (leader()) LogWarning("eval_input_path " + config_.eval_input_path() + " has no rows: nothing is evaluated");
    return;
  }
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
  const std::string results = eval::ResultPath(config_.model_dir());
  if (!eval::AppendResult(results, step, metrics)) LogWarning("cannot write " + results);
  ReportBest();
}

void Trainer::ReportUpload() {
  progress_.phase = "upload";
  server_.Update(progress_);
}

void Trainer::ReportBest() {
  const auto best = checkpoints_->Best();
  if (!best) return;
  message_.best = progress_.best = *best;
  server_.Update(progress_);
}

}  // namespace anneal::train
