// EvalJob: one evaluation per run of its TrainJob, and the gates.
#include "operator/api/conditions.h"
#include "operator/controllers/policies/baselines.h"
#include "operator/controllers/policies/gates.h"
#include "operator/controllers/reconcilers.h"

namespace anneal::controllers {

using kube::Json;

std::vector<kube::Key> Followers(kube::Api& api, const kube::Resource& follower, const std::string& reference,
                                 const Json& source) {
  std::vector<kube::Key> keys;
  const std::string ns = source["metadata"].value("namespace", "");
  for (const Json& job : api.List(follower, ns, {}).items) {
    const Json from = job["spec"].value("source", Json::object());
    if (from.contains(reference) && from[reference].value("name", "") == source["metadata"]["name"]) {
      keys.push_back({ns, job["metadata"]["name"]});
    }
  }
  return keys;
}

std::vector<std::pair<kube::Resource, std::function<std::vector<kube::Key>(const Json&)>>> EvalJobReconciler::watches()
    const {
  return {{kube::resources::kTrainJob,
           [this](const Json& train) { return Followers(api_, kube::resources::kEvalJob, "trainJobRef", train); }},
          {kube::resources::kEvalJob, [this](const Json& baseline) { return RelativeTo(baseline); }}};
}

std::vector<kube::Key> EvalJobReconciler::RelativeTo(const Json& baseline) const {
  std::vector<kube::Key> keys;
  const std::string ns = baseline["metadata"].value("namespace", "");
  for (const Json& job : api_.List(kube::resources::kEvalJob, ns, {}).items) {
    const Json gates = job["spec"].value("gates", Json::array());
    for (const Json& gate : gates) {
      const Json reference = gate.value("relativeTo", Json::object()).value("evalJobRef", Json::object());
      if (reference.value("name", "") != baseline["metadata"]["name"]) continue;
      keys.push_back({ns, job["metadata"]["name"]});
      break;
    }
  }
  return keys;
}

RunInputs EvalJobReconciler::Gather(const Json& job) {
  RunInputs inputs;
  const auto model = ResolveTrainJob(api_, job["metadata"].value("namespace", "default"),
                                     job["spec"]["source"]["trainJobRef"], inputs);
  if (!model) return inputs;
  if (job["spec"].contains("config") &&
      (job["spec"]["config"].contains("inline") || job["spec"]["config"].contains("configMapRef"))) {
    if (!ResolveConfig(job, inputs)) return inputs;
  } else {
    inputs.config = model->config;
  }
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
       EditJson(source["edits"], edits)});
  const std::string input =
      spec.value("data", Json::object()).value("evalInputPath", source["evalInputPath"].get<std::string>());
  if (!input.empty()) add({"--eval_input_path", input});
  AddDataVolumes(plan, spec);
  return plan;
}

KindTraits EvalJobReconciler::Traits(const Json& job) {
  KindTraits traits;
  traits.resource = resource();
  traits.pods = job["spec"]["workers"]["numNodes"];
  traits.rerun_on_change = job["spec"]["trigger"] == "EachRun";
  const Json gates = job["spec"].value("gates", Json::array());
  const int64_t generation = job["metadata"].value("generation", int64_t{1});
  traits.complete = [gates, generation, now = clock_.Now()](Json& status, const Json& message) -> std::string {
    const Json metrics = message.value("metrics", Json::object());
    if (metrics.empty()) return "the evaluation reported no metrics";
    const GateResult result =
        JudgeGates(gates, metrics, status["run"].value("facts", Json::object()).value("baselines", Json()));
    const Json& source = status["run"]["inputs"];
    status["checkpoint"] = {
        {"step", std::atoll(source["step"].get<std::string>().c_str())},
        {"path", source["modelDir"].get<std::string>() + "/model.ckpt-" + source["step"].get<std::string>()}};
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
