// EvalJob: one evaluation per run of its TrainJob, and the gates.
#include "operator/api/conditions.h"
#include "operator/controllers/policies/baselines.h"
#include "operator/controllers/policies/gates.h"
#include "operator/controllers/reconcilers.h"
#include "operator/controllers/source_model.h"

namespace anneal::controllers {

using kube::Json;

std::vector<kube::Resource> EvalJobReconciler::refers_to() const {
  return {kube::resources::kTrainJob, kube::resources::kEvalJob};
}

std::vector<kube::Reference> EvalJobReconciler::References(const Json& job) const {
  std::vector<kube::Reference> references;
  const auto add = [&](const kube::Resource& resource, const Json& reference) {
    if (const std::string name = reference.value("name", ""); !name.empty()) references.push_back({resource, name});
  };
  const Json spec = job.value("spec", Json::object());
  add(kube::resources::kTrainJob, spec.value("source", Json::object()).value("trainJobRef", Json::object()));
  for (const Json& gate : spec.value("gates", Json::array()))
    add(kube::resources::kEvalJob,
        gate.value("relativeTo", Json::object()).value("evalJobRef", Json::object()));  // the baseline
  return references;
}

RunInputs EvalJobReconciler::Gather(const Json& job) {
  RunInputs inputs;
  const Json& source = job["spec"]["source"];
  const auto model =
      source.contains("checkpoint")
          ? ResolveCheckpoint(source["checkpoint"], job["spec"])
          : ResolveTrainJob(api_, job["metadata"].value("namespace", "default"), source["trainJobRef"], inputs);
  if (!model) return inputs;
  inputs.config = model->config;
  if (HasOwnConfig(job) && !ResolveConfig(job, inputs)) return inputs;
  const auto baselines = ResolveBaselines(api_, job, inputs);
  if (!baselines) return inputs;
  if (!baselines->empty()) inputs.facts = {{"baselines", *baselines}};
  inputs.identity = model->identity;
  inputs.ready = true;
  return inputs;
}

WorkerPlan EvalJobReconciler::Plan(const Json& job) {
  const Json& spec = job["spec"];
  const Json& source = job["status"]["run"]["inputs"];
  WorkerPlan plan;
  plan.image = spec.contains("image") ? spec["image"] : source["image"];
  plan.args = LaunchArguments(job);
  auto add = [&plan](std::initializer_list<std::string> args) { plan.args.insert(plan.args.end(), args); };
  const std::string checkpoint = MountSource(plan, source);
  Json edits = spec.value("config", Json::object()).value("edits", Json::object());
  edits["model_dir"] = source["modelDir"];
  add({"eval", "--pipeline_config_path", kConfigPath, "--checkpoint_path", checkpoint, "--edit_config_json",
       EditJson(source.value("edits", Json()), edits)});
  const std::string input =
      spec.value("data", Json::object()).value("evalInputPath", source.value("evalInputPath", ""));
  if (!input.empty()) add({"--eval_input_path", input});
  AddDataVolumes(plan, spec);
  return plan;
}

KindTraits EvalJobReconciler::Traits(const Json& job) {
  KindTraits traits;
  traits.rerun_on_change = job["spec"]["trigger"] == "EachRun";
  const Json gates = job["spec"].value("gates", Json::array());
  const int64_t generation = job["metadata"].value("generation", int64_t{1});
  traits.complete = [gates, generation, now = clock_.Now()](Json& status, const Json& message) -> std::string {
    const Json metrics = message.value("metrics", Json::object());
    if (metrics.empty()) return "the evaluation reported no metrics";
    const GateResult result =
        JudgeGates(gates, metrics, status["run"].value("facts", Json::object()).value("baselines", Json()));
    const Json& source = status["run"]["inputs"];
    status["checkpoint"] = {{"step", std::atoll(source["step"].get<std::string>().c_str())},
                            {"path", CheckpointOf(source)}};
    status["gates"] = result.gates;
    status["gate"] = gates.empty() ? "none" : result.passed ? "passed" : "failed";
    const std::string reason = result.passed ? "GatePassed" : "GateFailed";
    api::SetCondition(status, "GatePassed", result.passed, reason, result.message, generation, now);
    if (!result.passed) {
      api::SetCondition(status, "Ready", false, reason, result.message, generation, now);
      api::SetCondition(status, "Stalled", true, reason, result.message, generation, now);
    }
    return "";
  };
  return traits;
}

}  // namespace anneal::controllers
