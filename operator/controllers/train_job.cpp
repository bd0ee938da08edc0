// TrainJob: workers that train, on a checkpoint volume of their own.
#include "operator/api/conditions.h"
#include "operator/api/spec_hash.h"
#include "operator/controllers/reconcilers.h"
#include "operator/controllers/source_model.h"

namespace anneal::controllers {

using kube::Json;

/// Where the model of another job's claim is mounted.
constexpr const char* kWarmMount = "/mnt/warm-start";

std::vector<kube::Resource> TrainJobReconciler::refers_to() const { return {kube::resources::kTrainJob}; }

std::vector<kube::Reference> TrainJobReconciler::References(const Json& job) const {
  const Json warm = job.value("spec", Json::object()).value("warmStart", Json::object());
  if (!warm.contains("trainJobRef")) return {};
  return {{kube::resources::kTrainJob, warm["trainJobRef"].value("name", "")}};
}

RunInputs TrainJobReconciler::Gather(const Json& job) {
  RunInputs inputs;
  if (!ResolveConfig(job, inputs)) return inputs;
  inputs.identity = {{"configHash", api::Sha256(inputs.config)}};  // the text itself lives in the snapshot
  const Json warm = job["spec"].value("warmStart", Json::object());
  if (warm.contains("trainJobRef")) {
    const auto model =
        ResolveTrainJob(api_, job["metadata"].value("namespace", "default"), warm["trainJobRef"], inputs);
    if (!model) return inputs;
    // What a run began with is a fact of that run: a newer run of the source starts nothing here.
    inputs.facts = {{"warmStart", model->identity}};
  }
  inputs.ready = true;
  return inputs;
}

// Weights to start from, as arguments.
void TrainJobReconciler::AddWarmStart(WorkerPlan& plan, const Json& job) {
  const Json& run = job["status"]["run"];
  const Json warm = job["spec"].value("warmStart", Json::object());
  const Json previous = run.value("previous", Json()),
             source = run.value("facts", Json::object()).value("warmStart", Json());
  std::string from;
  if (warm.value("previousRun", false) && previous.is_object()) {
    from = RunFolder(job, {{"number", previous["run"]}, {"id", previous.value("id", "")}});
  } else if (warm.contains("path")) {
    from = warm["path"];
  } else if (source.is_object()) {
    const std::string claim = source["claim"];
    from = CheckpointOf(source);
    if (claim != ModelClaim(job) || source["mount"] != job["spec"]["checkpoint"]["modelDir"]) {
      from = kWarmMount + from.substr(source["mount"].get<std::string>().size());
      AddMount(plan, "warm-start", {{"persistentVolumeClaim", {{"claimName", claim}}}}, kWarmMount, true,
               source["subPath"]);
    }
  }
  if (!from.empty()) plan.args.insert(plan.args.end(), {"--fine_tune_checkpoint", from});
  if (warm.value("ignoreOptimizer", false)) plan.args.push_back("--ignore_restore_optimizer");
}

WorkerPlan TrainJobReconciler::Plan(const Json& job) {
  const Json& spec = job["spec"];
  WorkerPlan plan;
  plan.image = spec["image"];
  plan.args = LaunchArguments(job);
  auto add = [&plan](std::initializer_list<std::string> args) { plan.args.insert(plan.args.end(), args); };
  add({"train", "--pipeline_config_path", kConfigPath, "--model_dir", RunFolder(job, job["status"]["run"]),
       "--continue_train"});
  const Json data = spec.value("data", Json::object());
  if (data.contains("trainInputPath")) add({"--train_input_path", data["trainInputPath"].get<std::string>()});
  if (data.contains("evalInputPath")) add({"--eval_input_path", data["evalInputPath"].get<std::string>()});
  if (spec["config"].contains("edits")) add({"--edit_config_json", spec["config"]["edits"].dump()});
  AddWarmStart(plan, job);
  if (const Json artifacts = spec.value("artifacts", Json::object()); artifacts.contains("upload"))
    AddDestination(plan, "--upload_uri", artifacts["upload"], job);
  const std::string claim = ModelClaim(job);
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
  traits.rerun_on_change = job["spec"]["updatePolicy"]["finished"] == "Rerun";
  traits.steps = true;
  const bool uploads = job["spec"].value("artifacts", Json::object()).contains("upload");
  const int64_t generation = job["metadata"].value("generation", int64_t{1});
  traits.complete = [uploads, generation, now = clock_.Now()](Json& status, const Json& message) -> std::string {
    if (!uploads) return "";
    if (!message.contains("artifact")) return "the run reported no upload";
    status["artifact"] = message["artifact"];
    api::SetCondition(status, "Published", true, "Published", message["artifact"].value("uri", ""), generation, now);
    return "";
  };
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
