// The fields of status, for `kubectl explain` and docs/api. Unknown fields are kept: an older CRD never cuts what a
// newer operator wrote.
#include "operator/api/schema.h"
#include "operator/api/schema_words.h"

namespace anneal::api {
namespace {

using kube::Json;

Json T(const std::string& description) { return {{"type", "string"}, {"description", description}}; }
Json I(const std::string& description) {
  return {{"type", "integer"}, {"format", "int64"}, {"description", description}};
}
Json O(const std::string& description, Json properties) {
  Json schema = Object(description, std::move(properties));
  schema["x-kubernetes-preserve-unknown-fields"] = true;
  return schema;
}
Json L(const std::string& description, Json item) {
  return {{"type", "array"},
          {"description", description},
          {"items", std::move(item)},
          {"x-kubernetes-list-type", "atomic"}};
}

Json Conditions() {
  Json item = O(
      "As metav1.Condition.",
      {{"type",
        T("Ready, Reconciling, Stalled (kstatus); WorkersReady, Progressing, Admitted, Suspended, CheckpointAvailable, "
          "SpecChangePending, Complete, Failed, GatePassed, Verified, Published.")},
       {"status", T("True or False.")},
       {"reason", T("One word for machines; docs/operations.md says what to do.")},
       {"message", T("What happened and what to do.")},
       {"observedGeneration", I("Generation of the spec that it speaks of.")},
       {"lastTransitionTime", T("Since when it has this status.")}});
  Json list = L("What is true of the job now.", item);
  list["x-kubernetes-list-type"] = "map";
  list["x-kubernetes-list-map-keys"] = Json::array({"type"});
  list["items"]["required"] = {"type", "status"};
  return list;
}

Json Metrics() { return L("Metrics.", O("One.", {{"name", T("Name.")}, {"value", T("Six decimals.")}})); }

}  // namespace

Json StatusSchema(const Kind& kind) {
  const Json checkpoint =
      O("The newest checkpoint.", {{"step", I("Global step.")}, {"time", T("When the operator heard of it.")}});
  const Json best =
      O("The best one by its evaluation; of a config with export_config.exporter_type 'best'.",
        {{"step", I("Global step.")}, {"metric", T("best_exporter_metric.")}, {"value", T("Its value.")}});
  Json fields = {
      {"observedGeneration", I("Generation of the spec that this status is about.")},
      {"phase",
       T("Pending, Starting, Running, Restarting, Suspending, Suspended, Complete or Failed: one word for people.")},
      {"conditions", Conditions()},
      {"run", O("The current run.",
                {{"number", I("1, 2, ...: a changed run field or run-requested-at begins the next.")},
                 {"id", T("r<number>-<first 8 digits of the job's UID>: names the run's folder.")},
                 {"specHash", T("Identity of the run fields and inputs.")},
                 {"configHash", T("SHA-256 of the config text.")},
                 {"trigger", T("Initial, SpecChange or Annotation.")},
                 {"attempt", I("1, 2, ...: every restart is the next.")},
                 {"olderPods",
                  L("Attempts whose pods have to be gone before those of this one are made.",
                    O("Attempt.", {{"run", I("Its run.")}, {"attempt", I("Its number.")}, {"nodes", I("Its pods.")}}))},
                 {"restarts", I("Restarts of the run.")},
                 {"countedRestarts", I("Those that count against failurePolicy.maxRestarts.")},
                 {"avoidNodes", L("Nodes that the next attempts keep away from.", T("Node."))},
                 {"startTime", T("When it began or was resumed.")},
                 {"runningTime", T("When all workers ran first.")},
                 {"completionTime", T("When it ended.")}})},
      {"workers", O("Pods of the current attempt.", {{"desired", I("Pods.")},
                                                     {"pending", I("Pods.")},
                                                     {"running", I("Pods.")},
                                                     {"succeeded", I("Pods.")},
                                                     {"failed", I("Pods.")},
                                                     {"terminating", I("Pods.")},
                                                     {"summary", T("Running/desired.")}})},
      {"problems", L("Workers that failed last.", O("A worker.", {{"rank", I("Worker number.")},
                                                                  {"pod", T("Pod.")},
                                                                  {"node", T("Node.")},
                                                                  {"reason", T("Reason.")},
                                                                  {"exitCode", I("Exit code.")},
                                                                  {"message", T("What it said.")}}))},
      {"progress", O("What rank 0 reported last.", {{"globalStep", I("Step.")},
                                                    {"totalSteps", I("Steps of the run.")},
                                                    {"percent", T("Done.")},
                                                    {"samplesPerSecond", I("Throughput.")},
                                                    {"etaSeconds", I("Left.")},
                                                    {"loss", T("Loss.")},
                                                    {"auc", T("AUC.")},
                                                    {"metrics", Metrics()},
                                                    {"lastCheckpoint", checkpoint},
                                                    {"bestCheckpoint", best}})},
      {"failure", O("Why the run failed.", {{"reason", T("One word.")},
                                            {"message", T("What happened and what to do.")},
                                            {"rank", I("Blamed worker.")},
                                            {"pod", T("Its pod.")},
                                            {"exitCode", I("Its exit code.")}})},
      {"history",
       L("Earlier runs, the newest first.", O("A run.", {{"number", I("Run.")},
                                                         {"id", T("Names its folder.")},
                                                         {"specHash", T("Identity.")},
                                                         {"result", T("Complete, Failed or the phase it was left in.")},
                                                         {"startTime", T("Begin.")},
                                                         {"completionTime", T("End.")},
                                                         {"finalMetrics", Metrics()},
                                                         {"checkpoint", checkpoint},
                                                         {"bestCheckpoint", best}}))}};
  if (kind.resource.kind == "EvalJob") {
    fields["gate"] = T("passed, failed or none.");
    fields["checkpoint"] = O("What was evaluated.", {{"step", I("Global step.")}, {"path", T("Folder.")}});
    fields["gates"] = L("The gates with the values found.",
                        O("A gate.", {{"metric", T("Metric.")},
                                      {"op", T("Comparison.")},
                                      {"threshold", T("The threshold applied.")},
                                      {"baseline", T("The baseline's value.")},
                                      {"value", T("The value found.")},
                                      {"passed", {{"type", "boolean"}, {"description", "Whether it holds."}}}}));
  }
  if (kind.resource.kind == "ExportJob") {
    fields["checkpoint"] = O("What was exported.", {{"step", I("Global step.")}});
  }
  if (kind.resource.kind != "EvalJob") {
    fields["artifact"] = O("What was published.", {{"uri", T("Where.")},
                                                   {"sha256", T("Of the manifest.")},
                                                   {"sizeBytes", I("Size.")},
                                                   {"format", T("Format of an export.")}});
  }
  return O("What the operator found and did.", fields);
}

}  // namespace anneal::api
