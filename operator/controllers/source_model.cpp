#include "operator/controllers/source_model.h"

#include <algorithm>

#include "operator/api/schema.h"
#include "operator/controllers/run_snapshot.h"

namespace anneal::controllers {
namespace {

using kube::Json;
namespace resources = kube::resources;

constexpr const char* kCheckpointMount = "/mnt/model";

/// What is known of a run: its entry in history, or the same facts of the current run.
Json FindRun(const Json& status, int number) {
  const Json& run = status["run"];
  if (run["number"] == number) {
    const Json progress = status.value("progress", Json::object());
    return {{"number", run["number"]},
            {"id", run.value("id", "")},
            {"result", status.value("phase", "")},
            {"checkpoint", progress.value("lastCheckpoint", Json::object())},
            {"bestCheckpoint", progress.value("bestCheckpoint", Json::object())}};
  }
  for (const Json& entry : status.value("history", Json::array())) {
    if (entry["number"] == number) return entry;
  }
  return nullptr;
}

}  // namespace

std::string RunFolder(const Json& train_job, const Json& run) {
  const std::string id = run.value("id", ""), folder = train_job["spec"]["checkpoint"]["modelDir"];
  return folder + "/" + (id.empty() ? "r" + run["number"].dump() : id);
}

std::string ModelClaim(const Json& train_job) {
  const Json volume = train_job["spec"]["checkpoint"].value("volume", Json::object());
  if (volume.contains("claimName")) return volume["claimName"];
  return volume.contains("claimTemplate") ? ClaimName(train_job["metadata"]["name"]) : "";
}

std::optional<SourceModel> ResolveTrainJob(kube::Api& api, const std::string& ns, const Json& reference,
                                           RunInputs& inputs) {
  const std::string name = reference["name"], checkpoint = reference.value("checkpoint", "Latest"),
                    which = reference.value("run", "Latest");
  const auto wait = [&](const std::string& reason, const std::string& message,
                        bool stalled) -> std::optional<SourceModel> {
    inputs.reason = reason;
    inputs.message = message;
    inputs.stalled = stalled;
    return std::nullopt;
  };
  const auto found = kube::Find(api, resources::kTrainJob, ns, name);
  if (!found) return wait("WaitingForSource", "TrainJob " + name + " is not there", false);
  const Json now = api::DefaultAndValidate(resources::kTrainJob, *found);
  const Json status = now.value("status", Json::object());
  const std::string phase = status.value("phase", "Pending");
  const int current = status.value("run", Json::object()).value("number", 0);
  const int number = which == "Latest" ? current : std::atoi(which.c_str());
  if (number == current && phase == "Failed") {
    return wait("SourceFailed",
                "TrainJob " + name + " failed: " + status.value("failure", Json::object()).value("message", ""), true);
  }
  if (current == 0 || number > current || (number == current && phase != "Complete")) {
    return wait("WaitingForSource",
                "TrainJob " + name + " is " + phase + (number > current ? ", run " + which + " has not begun" : ""),
                false);
  }
  const Json run = FindRun(status, number);
  if (!run.is_object())
    return wait("ReferenceNotFound", "TrainJob " + name + " keeps no run " + which + " in its history", true);
  auto snapshot = FindSnapshot(api, ns, name, now["metadata"]["uid"], number);
  if (!snapshot) return wait("ReferenceNotFound", "config snapshot " + SnapshotName(name, number) + " is gone", true);
  const Json train = AsOfRun(resources::kTrainJob, now, *snapshot);
  if (ModelClaim(train).empty()) {
    return wait("ReferenceNotFound",
                "TrainJob " + name + " has no checkpoint.volume: its checkpoints are gone with its pods", true);
  }
  std::string step = checkpoint;
  if (checkpoint == "Latest" || checkpoint == "Best") {
    const bool best = checkpoint == "Best";
    const Json found_checkpoint = run.value(best ? "bestCheckpoint" : "checkpoint", Json::object());
    if (!found_checkpoint.contains("step")) {
      return wait("ReferenceNotFound",
                  "run " + std::to_string(number) + " of TrainJob " + name + " reported no " +
                      (best ? "best checkpoint: its config needs export_config { exporter_type: 'best' "
                              "best_exporter_metric: '...' } and an eval_input_path"
                            : "checkpoint"),
                  true);
    }
    step = found_checkpoint["step"].dump();
  }
  const Json& spec = train["spec"];
  SourceModel model;
  model.identity = {{"trainJob", name},
                    {"uid", train["metadata"]["uid"]},
                    {"run", number},
                    {"step", step},
                    {"mount", spec["checkpoint"]["modelDir"]},
                    {"modelDir", RunFolder(train, run)},
                    {"claim", ModelClaim(train)},
                    {"subPath", spec["checkpoint"].value("volume", Json::object()).value("subPath", "")},
                    {"image", spec["image"]},
                    {"evalInputPath", spec.value("data", Json::object()).value("evalInputPath", "")},
                    {"edits", spec["config"].value("edits", Json::object())}};
  model.config = std::move(snapshot->config);
  return model;
}

SourceModel ResolveCheckpoint(const Json& checkpoint, const Json& spec) {
  const std::string path = std::string(kCheckpointMount) + "/" + checkpoint["path"].get<std::string>();
  const size_t slash = path.rfind('/'), dash = path.rfind('-');
  const std::string step = dash != std::string::npos && dash > slash ? path.substr(dash + 1) : "";
  const bool number = !step.empty() && step.find_first_not_of("0123456789") == std::string::npos;
  SourceModel model;
  model.identity = {{"step", number ? step : "0"},
                    {"mount", kCheckpointMount},
                    {"modelDir", path.substr(0, slash)},
                    {"claim", checkpoint["claimName"]},
                    {"subPath", checkpoint.value("subPath", "")},
                    {"image", spec.value("image", "")},
                    {"checkpoint", path}};
  return model;
}

std::string CheckpointOf(const Json& identity) {
  return identity.value("checkpoint",
                        identity["modelDir"].get<std::string>() + "/model.ckpt-" + identity["step"].get<std::string>());
}

std::string MountSource(WorkerPlan& plan, const Json& identity) {
  const std::string claim = identity["claim"];
  if (!claim.empty()) {
    AddMount(plan, "model", {{"persistentVolumeClaim", {{"claimName", claim}}}}, identity["mount"], false,
             identity["subPath"]);
  }
  return CheckpointOf(identity);
}

}  // namespace anneal::controllers
