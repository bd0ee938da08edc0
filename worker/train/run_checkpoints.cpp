#include "worker/train/run_checkpoints.h"

#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/train/progress/log.h"

namespace anneal::train {

using nlohmann::json;

// Besides these the file is as the reference's.
constexpr const char* kDueByEventTime = "__due_by_event_time__";
constexpr const char* kPass = "__pass__";
constexpr const char* kBatches = "__batches__";
constexpr const char* kOrder = "__order__";

bool StepCheckpointDue(const tzrec::protos::TrainConfig& config, int64_t step) {
  return config.save_checkpoints_epochs() == 0 && config.save_checkpoints_steps() > 0 && step > 0 &&
         step % config.save_checkpoints_steps() == 0;
}

bool EpochCheckpointDue(const tzrec::protos::TrainConfig& config, int64_t step, int64_t epoch) {
  const int64_t every = config.save_checkpoints_epochs();
  return every > 0 && step > 0 && (epoch + 1) % every == 0;
}

ReadingPosition ReadPosition(const checkpoint::Reader& reader) {
  ReadingPosition position;
  const json state = json::parse(reader.file("dataloader_state.json").value_or("{}"), nullptr, false);
  if (!state.is_object()) throw DataError(reader.path() + "/dataloader_state.json is not a JSON object");
  for (const auto& [key, value] : state.items()) {
    const auto number = [&, key = key, value = value] {
      if (value.is_number_integer()) return value.get<int64_t>();
      throw DataError(reader.path() + "/dataloader_state.json: " + key + " is no whole number");
    };
    if (key == "__epochs_completed__" || key == kPass) {
      position.data.pass = number();
    } else if (key == kBatches) {
      position.data.batches = number();
    } else if (key == kOrder) {
      position.data.order = number();
    } else if (key == "__data_ts_watermark__") {
      position.event_time = number();
    } else if (key == kDueByEventTime) {
      position.due_by_event_time = number() != 0;
    } else if (value.is_number_integer() && !key.starts_with("__")) {
      position.data.rows[key] = value;
    }
  }
  return position;
}

RunCheckpoints::RunCheckpoints(const tzrec::protos::EasyRecConfig& config, const dist::Topology& topology,
                               dist::ProcessGroup& group, Learner& learner, int64_t last_saved_step)
    : config_(config),
      topology_(topology),
      group_(group),
      learner_(learner),
      last_begun_step_(last_saved_step),
      last_saved_step_(last_saved_step) {}

RunCheckpoints::~RunCheckpoints() {
  if (work_ && work_->thread.joinable()) work_->thread.join();
}

// Positions of all ranks, merged by maximum. A collective.
std::string RunCheckpoints::DataloaderState(const ReadingPosition& position) {
  json state = json::object();
  for (const auto& [source, row] : position.data.rows) state[source] = row;
  const std::string mine = state.dump();
  for (const std::string& text : group_.AllGatherText(mine)) {
    const json other = json::parse(text);
    for (const auto& [source, row] : other.items()) {
      if (!state.contains(source) || state[source] < row) state[source] = row;
    }
  }
  if (config_.train_config().num_epochs() > 0) state["__epochs_completed__"] = position.data.pass;
  state[kPass] = position.data.pass;
  state[kBatches] = position.data.batches;
  if (position.data.order != 0) state[kOrder] = position.data.order;
  if (position.event_time) state["__data_ts_watermark__"] = *position.event_time;
  if (position.due_by_event_time) state[kDueByEventTime] = 1;
  return state.dump(2);
}

void RunCheckpoints::Begin(int64_t step, const ReadingPosition& position, std::map<std::string, std::string> files) {
  Finish();
  const std::string& model_dir = config_.model_dir();
  LogLive("");
  if (topology_.rank == 0) LogInfo("Saving checkpoint to " + checkpoint::CheckpointPath(model_dir, step) + "...");
  work_.reset(new Work{{}, {model_dir, step, topology_.rank, topology_.world_size}, "", {}});
  checkpoint::Contents& contents = work_->contents;
  contents.step = last_begun_step_ = step;
  const eval::Freeze freeze = learner_.Freeze();
  contents.model = learner_.ModelPieces(topology_.rank, freeze);
  contents.optimizer = learner_.OptimizerPieces(topology_.rank, freeze);
  contents.files = std::move(files);
  contents.files["dataloader_state.json"] = DataloaderState(position);
  contents.files["plan"] = learner_.PlanJson().dump();
  json state = learner_.StateJson();
  state["world_size"] = topology_.world_size;
  contents.files["train_state.json"] = state.dump();
  if (topology_.rank == 0) Attempt([this] { work_->saving.Prepare(); });
  group_.Barrier();
  written_ = false;
  work_->thread = std::thread([this] {
    Attempt([this] { work_->saving.WriteShards(work_->contents); });
    written_ = true;
  });
}

bool RunCheckpoints::Finish() {
  if (!work_) return true;
  if (!work_->thread.joinable()) {  // something went wrong before it began, or after it had ended
    work_.reset();
    return false;
  }
  work_->thread.join();
  group_.Barrier();
  const bool leader = topology_.rank == 0;
  if (leader) Attempt([this] { work_->saving.Publish(work_->contents, !work_->problem.empty()); });
  const auto work = std::move(work_);
  written_ = false;
  if (group_.AllGather(leader && work->problem.empty())[0] == 0) {
    LogError("checkpoint of step " + std::to_string(work->contents.step) + " could not be written: " +
             (work->problem.empty() ? "another rank could not write its part" : work->problem));
    return false;
  }
  last_saved_step_ = work->contents.step;
  last_path_ = work->saving.path();
  if (!leader) return true;
  LogInfo("Saved dataloader state to " + last_path_ + "/dataloader_state.json");
  const int keep = static_cast<int>(config_.train_config().keep_checkpoint_max());
  const auto best = Best();
  const std::string protect = best ? checkpoint::CheckpointPath(config_.model_dir(), best->step) : "";
  for (const std::string& old : checkpoint::Prune(config_.model_dir(), keep, protect)) {
    LogInfo("Removing old checkpoint " + old + "...");
  }
  return true;
}

std::optional<BestCheckpoint> RunCheckpoints::Best() const {
  try {
    return eval::FindBestResult(config_);
  } catch (const ConfigError& error) {
    LogWarning(error.what());
    return std::nullopt;
  }
}

// What goes wrong first is the save's problem.
void RunCheckpoints::Attempt(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& error) {
    if (work_->problem.empty()) work_->problem = error.what();
  }
}

void RunCheckpoints::RewritePosition(const ReadingPosition& position) {
  const std::string state = DataloaderState(position);
  if (topology_.rank != 0 || last_saved_step_ < 0) return;
  checkpoint::RewriteFile(checkpoint::CheckpointPath(config_.model_dir(), last_saved_step_), "dataloader_state.json",
                          state);
}

}  // namespace anneal::train
