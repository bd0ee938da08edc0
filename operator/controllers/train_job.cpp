// TrainJob: workers that train, on a checkpoint volume of their own.
#include "operator/api/spec_hash.h"
#include "operator/controllers/reconcilers.h"

namespace anneal::controllers {
namespace {

using kube::Json;

std::string RunFolder(const Json& job, int run) {
  return job["spec"]["checkpoint"]["modelDir"].get<std::string>() + "/r" + std::to_string(run);
}

std::string ClaimOf(const Json& job) {
  const Json volume = job["spec"]["checkpoint"].value("volume", Json::object());
  if (volume.contains("claimName")) return volume["claimName"];
  return volume.contains("claimTemplate") ? ClaimName(job["metadata"]["name"]) : "";
}

}  // namespace

RunInputs TrainJobReconciler::Gather(const Json& job) {
  RunInputs inputs;
  if (!ResolveConfig(job, inputs)) return inputs;
  inputs.ready = true;
  inputs.identity = {{"configHash", api::Sha256(inputs.config)}};  // the text itself lives in the snapshot
  return inputs;
}

WorkerPlan TrainJobReconciler::Plan(const Json& job) {
  const Json& spec = job["spec"];
  const int run = job["status"]["run"]["number"];
  WorkerPlan plan;
  plan.image = spec["image"];
  plan.args = LaunchArguments(job);
  auto add = [&plan](std::initializer_list<std::string> args) { plan.args.insert(plan.args.end(), args); };
  add({"train", "--pipeline_config_path", kConfigPath, "--model_dir", RunFolder(job, run), "--continue_train"});
  const Json data = spec.value("data", Json::object());
  if (data.contains("trainInputPath")) add({"--train_input_path", data["trainInputPath"].get<std::string>()});
  if (data.contains("evalInputPath")) add({"--eval_input_path", data["evalInputPath"].get<std::string>()});
  if (spec["config"].contains("edits")) add({"--edit_config_json", spec["config"]["edits"].dump()});
  const Json warm = spec.value("warmStart", Json::object());
  const Json previous = job["status"]["run"].value("previous", Json());
  if (warm.value("previousRun", false) && previous.is_object()) {
    add({"--fine_tune_checkpoint", RunFolder(job, previous["run"])});
  } else if (warm.contains("path")) {
    add({"--fine_tune_checkpoint", warm["path"].get<std::string>()});
  }
  if (warm.value("ignoreOptimizer", false)) add({"--ignore_restore_optimizer"});
  const std::string claim = ClaimOf(job);
  if (!claim.empty()) {
    AddMount(plan, "model", {{"persistentVolumeClaim", {{"claimName", claim}}}}, spec["checkpoint"]["modelDir"], false,
             spec["checkpoint"]["volume"].value("subPath", ""));
  } else {
    AddMount(plan, "model", {{"emptyDir", Json::object()}}, spec["checkpoint"]["modelDir"], false);
  }
  AddDataVolumes(plan, spec);
  return plan;
}

KindTraits TrainJobReconciler::Traits(const Json& job) {
  KindTraits traits;
  traits.resource = resource();
  traits.pods = job["spec"]["workers"]["numNodes"];
  traits.rerun_on_change = job["spec"]["updatePolicy"]["finished"] == "Rerun";
  traits.complete = [](Json&, const Json&) { return std::string(); };
  return traits;
}

void TrainJobReconciler::PrepareMore(const Json& job) {
  const Json volume = job["spec"]["checkpoint"].value("volume", Json::object());
  if (!volume.contains("claimTemplate")) return;
  const Json& claim_template = volume["claimTemplate"];
  Json claim = {{"metadata", {{"name", ClaimName(job["metadata"]["name"])}, {"labels", JobLabels(job)}}},
                {"spec",
                 {{"accessModes", claim_template["accessModes"]},
                  {"resources", {{"requests", {{"storage", claim_template["size"]}}}}}}}};
  if (claim_template.contains("storageClassName"))
    claim["spec"]["storageClassName"] = claim_template["storageClassName"];
  // Retained claims have no owner: they outlive the job.
  if (job["spec"]["checkpoint"]["retention"] == "Delete")
    claim["metadata"]["ownerReferences"] = Json::array({OwnerReference(job)});
  Ensure(kube::resources::kPersistentVolumeClaim, job, claim);
}

}  // namespace anneal::controllers
