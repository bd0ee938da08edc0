// ExportJob: one export per run of its source, after a passed gate.
#include "operator/api/conditions.h"
#include "operator/controllers/reconcilers.h"
#include "operator/controllers/source_model.h"

namespace anneal::controllers {
namespace {

using kube::Json;

constexpr const char* kScratch = "/mnt/export";

/// What the spec says about the artefact; what it leaves out, the worker's environment decides.
void AddSettings(WorkerPlan& plan, const Json& spec) {
  const auto add = [&plan](const char* flag, const Json& object, const char* field) {
    if (!object.contains(field)) return;
    const Json& value = object[field];
    plan.args.insert(plan.args.end(), {flag, value.is_string() ? value.get<std::string>() : value.dump()});
  };
  add("--quantization", spec, "quantization");
  add("--sequence_quantization", spec, "sequenceQuantization");
  add("--input_tile", spec, "inputTile");
}

}  // namespace

std::vector<kube::Resource> ExportJobReconciler::refers_to() const {
  return {kube::resources::kEvalJob, kube::resources::kTrainJob};
}

std::vector<kube::Reference> ExportJobReconciler::References(const Json& job) const {
  std::vector<kube::Reference> references;
  const Json source = job.value("spec", Json::object()).value("source", Json::object());
  if (source.contains("evalJobRef"))
    references.push_back({kube::resources::kEvalJob, source["evalJobRef"].value("name", "")});
  if (source.contains("trainJobRef"))
    references.push_back({kube::resources::kTrainJob, source["trainJobRef"].value("name", "")});
  return references;
}

RunInputs ExportJobReconciler::Gather(const Json& job) {
  RunInputs inputs;
  const std::string ns = job["metadata"].value("namespace", "default");
  const Json& source = job["spec"]["source"];
  if (source.contains("checkpoint")) return Use(job, ResolveCheckpoint(source["checkpoint"], job["spec"]));
  Json train_reference;
  Json eval_identity;
  if (source.contains("evalJobRef")) {
    const std::string name = source["evalJobRef"]["name"];
    const auto eval = kube::Find(api_, kube::resources::kEvalJob, ns, name);
    const Json status = eval ? eval->value("status", Json::object()) : Json::object();
    const std::string phase = status.value("phase", "Pending");
    if (!eval || (phase != "Complete" && phase != "Failed")) {
      const bool stalled = api::IsTrue(status, "Stalled");
      inputs.reason = stalled ? "SourceFailed" : "WaitingForSource";
      inputs.stalled = stalled;
      inputs.message = "EvalJob " + name + (eval ? " is " + phase : " is not there");
      if (stalled) inputs.message += ": " + api::FindCondition(status, "Stalled").value("message", "");
      return inputs;
    }
    if (phase == "Failed" || !api::IsTrue(status, "GatePassed")) {
      const Json gate = api::FindCondition(status, "GatePassed");
      inputs.reason = phase == "Failed" ? "SourceFailed" : "GateFailed";
      inputs.message =
          "EvalJob " + name + ": " +
          (gate.is_object() ? gate.value("message", "") : status.value("failure", Json::object()).value("message", ""));
      inputs.stalled = true;
      return inputs;
    }
    // The very checkpoint that passed, even when the TrainJob has moved on.
    eval_identity = status["run"]["inputs"];
    if (!eval_identity.contains("trainJob")) {  // a checkpoint without a TrainJob
      const auto snapshot = FindSnapshot(api_, ns, name, (*eval)["metadata"]["uid"], status["run"]["number"]);
      return Use(job, {eval_identity, snapshot ? snapshot->config : ""});
    }
    train_reference = {{"name", eval_identity["trainJob"]},
                       {"run", eval_identity["run"].dump()},
                       {"checkpoint", eval_identity["step"]}};
  } else {
    train_reference = source["trainJobRef"];
  }
  const auto model = ResolveTrainJob(api_, ns, train_reference, inputs);
  if (!model) return inputs;
  if (eval_identity.is_object() && eval_identity["uid"] != model->identity["uid"]) {
    inputs.reason = "WaitingForSource";
    inputs.message = "TrainJob " + eval_identity["trainJob"].get<std::string>() +
                     " was made anew; its EvalJob has not evaluated it yet";
    return inputs;
  }
  return Use(job, *model);
}

RunInputs ExportJobReconciler::Use(const Json& job, const SourceModel& model) {
  RunInputs inputs;
  inputs.identity = model.identity;
  inputs.config = model.config;
  if (HasOwnConfig(job) && !ResolveConfig(job, inputs)) return inputs;
  inputs.ready = true;
  return inputs;
}

WorkerPlan ExportJobReconciler::Plan(const Json& job) {
  const Json& spec = job["spec"];
  const Json& source = job["status"]["run"]["inputs"];
  WorkerPlan plan;
  plan.image = spec.contains("image") ? spec["image"] : source["image"];
  const std::string checkpoint = MountSource(plan, source);
  Json edits = spec.value("config", Json::object()).value("edits", Json::object());
  edits["model_dir"] = source["modelDir"];
  AddMount(plan, "scratch", {{"emptyDir", Json::object()}}, kScratch, false);
  // One attempt's scratch folder is never another's.
  const std::string folder = std::string(kScratch) + "/a" + job["status"]["run"]["attempt"].dump();
  plan.args = {"export",
               "--pipeline_config_path",
               kConfigPath,
               "--checkpoint_path",
               checkpoint,
               "--edit_config_json",
               EditJson(source.value("edits", Json()), edits),
               "--export_dir",
               folder,
               "--verify_max_abs_diff",
               spec["verify"]["maxAbsDiff"],
               "--format",
               spec["format"]};
  AddDestination(plan, "--publish_uri", spec["artifact"], job);
  AddSettings(plan, spec);
  const std::string input = spec["verify"].value("inputPath", source.value("evalInputPath", ""));
  if (!input.empty()) plan.args.insert(plan.args.end(), {"--verify_input_path", input});
  AddDataVolumes(plan, spec);
  return plan;
}

KindTraits ExportJobReconciler::Traits(const Json& job) {
  KindTraits traits;
  traits.rerun_on_change = job["spec"]["trigger"] == "EachRun";
  const int64_t generation = job["metadata"].value("generation", int64_t{1});
  const std::string format = job["spec"]["format"];
  traits.complete = [generation, format, now = clock_.Now()](Json& status, const Json& message) -> std::string {
    if (!message.contains("artifact")) return "the export reported no artifact";
    const Json& source = status["run"]["inputs"];
    status["artifact"] = message["artifact"];
    status["artifact"]["format"] = format;
    status["artifact"]["sourceStep"] = source["step"];
    status["checkpoint"] = {{"step", std::atoll(source["step"].get<std::string>().c_str())}};
    const Json metrics = message.value("metrics", Json::object());
    const std::string difference = metrics.contains("max_abs_diff") ? metrics["max_abs_diff"].dump() : "unknown";
    api::SetCondition(status, "Verified", true, "Compared", "largest difference " + difference, generation, now);
    api::SetCondition(status, "Published", true, "Published", message["artifact"].value("uri", ""), generation, now);
    return "";
  };
  return traits;
}

}  // namespace anneal::controllers
