// The fields of the three kinds. Semantics: docs/user-guide/.
#include "operator/api/schema.h"

namespace anneal::api {
namespace {

using kube::Json;

Json Text(const std::string& description, int max_length = 1024) {
  return {{"type", "string"}, {"description", description}, {"maxLength", max_length}};
}
Json Integer(const std::string& description, int64_t least, int64_t most) {
  return {{"type", "integer"}, {"format", "int64"}, {"description", description}, {"minimum", least}, {"maximum", most}};
}
Json Flag(const std::string& description, bool fallback) {
  return {{"type", "boolean"}, {"description", description}, {"default", fallback}};
}
Json Choice(const std::string& description, const std::vector<std::string>& values, const std::string& fallback) {
  return {{"type", "string"}, {"description", description}, {"enum", values}, {"default", fallback}};
}
Json With(Json schema, const std::string& key, Json value) {
  schema[key] = std::move(value);
  return schema;
}
Json Default(Json schema, Json value) { return With(std::move(schema), "default", std::move(value)); }
Json Decimal(const std::string& description) {
  return With(Text(description, 32), "pattern", "^-?[0-9]+(\\.[0-9]+)?([eE]-?[0-9]+)?$");
}
Json Object(const std::string& description, Json properties, const std::vector<std::string>& required = {}) {
  Json schema = {{"type", "object"}, {"description", description}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = required;
  return schema;
}
Json Map(const std::string& description, int most = 64) {
  return {{"type", "object"},
          {"description", description},
          {"maxProperties", most},
          {"additionalProperties", {{"type", "string"}, {"maxLength", 4096}}}};
}
/// Kubernetes' own shape, passed on as it is.
Json Opaque(const std::string& description) {
  return {{"type", "object"}, {"description", description}, {"x-kubernetes-preserve-unknown-fields", true}};
}
Json ListOf(const std::string& description, Json items, int most, const std::string& key = "") {
  Json schema = {{"type", "array"}, {"description", description}, {"maxItems", most}, {"items", std::move(items)}};
  schema["x-kubernetes-list-type"] = key.empty() ? "atomic" : "map";
  if (!key.empty()) schema["x-kubernetes-list-map-keys"] = Json::array({key});
  return schema;
}

const char* kMountPath = "^/[^:]*$";

Json Image(bool from_source) {
  return Text(std::string("Worker image.") + (from_source ? " Empty: the source TrainJob's." : ""), 512);
}

Json Workers() {
  return Default(
      Object("The pods of a run: numNodes pods with gpusPerNode GPUs each, one process per GPU.",
             {{"numNodes", Default(Integer("Pods, one per node.", 1, 1024), 1)},
              {"gpusPerNode", Default(Integer("GPUs per pod; 0 trains on the CPU.", 0, 16), 1)},
              {"gpuResourceName", Default(Text("Extended resource of a GPU.", 253), "nvidia.com/gpu")},
              {"procsPerNode", Integer("Processes per pod. Unset: gpusPerNode, at least 1.", 1, 128)},
              {"resources", Opaque("CPU and memory requests and limits, as a container's; GPUs are added.")},
              {"nodeSelector", Map("As a pod's.")},
              {"tolerations", ListOf("As a pod's.", Opaque("A toleration."), 32)},
              {"affinity", Opaque("As a pod's.")},
              {"shmSize", Default(Text("Size of the memory-backed /dev/shm.", 32), "16Gi")},
              {"terminationGracePeriodSeconds",
               Default(Integer("Time for the checkpoint after SIGTERM.", 1, 86400), 300)},
              {"podTemplate", Opaque("Merged over the pod (RFC 7386); names, labels and owner set by the operator win.")}}),
      Json::object());
}

Json Data() {
  return Object(
      "Where the rows are.",
      {{"trainInputPath", Text("Overrides train_input_path of the config.", 4096)},
       {"evalInputPath", Text("Overrides eval_input_path of the config.", 4096)},
       {"volumes",
        ListOf("Volumes mounted into the workers.",
               Object("A claim or a folder of the node.",
                      {{"name", With(Text("Volume name.", 63), "pattern", "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")},
                       {"mountPath", With(Text("Absolute path in the container."), "pattern", kMountPath)},
                       {"readOnly", Flag("Mount read-only.", true)},
                       {"claimName", Text("PersistentVolumeClaim.", 253)},
                       {"subPath", Text("Folder of the volume.")},
                       {"hostPath", Text("Folder of the node.")}},
                      {"name", "mountPath"}),
               32, "name")}});
}

Json FailurePolicy() {
  return Default(
      Object(
          "What happens when a worker fails. All workers of an attempt are restarted together.",
          {{"maxRestarts", Default(Integer("Counted restarts before the run fails.", 0, 1000), 3)},
           {"backoff",
            Default(Object("Wait before a restart: initial x 2^n, at most max.",
                           {{"initialSeconds", Default(Integer("First wait.", 0, 3600), 10)},
                            {"maxSeconds", Default(Integer("Longest wait.", 0, 86400), 600)}}),
                    Json::object())},
           {"rules",
            ListOf("First match wins, before the built-in rules (64 and 78: Fail; 143: RestartDoNotCount; else Restart).",
                   Object("A rule.", {{"name", Text("For the condition's message.", 63)},
                                      {"action", {{"type", "string"},
                                                  {"description", "What to do."},
                                                  {"enum", {"Fail", "Restart", "RestartDoNotCount"}}}},
                                      {"onExitCodes",
                                       Object("Exit codes of the blamed worker.",
                                              {{"operator", Choice("In or NotIn.", {"In", "NotIn"}, "In")},
                                               {"values", ListOf("Exit codes.", Integer("An exit code.", 1, 255), 64)}},
                                              {"values"})}},
                          {"action", "onExitCodes"}),
                   20)},
           {"pendingTimeoutSeconds",
            Default(Integer("Fail when not all workers run after this long; 0 = never.", 0, 604800), 0)},
           {"progressTimeoutSeconds",
            Default(Integer("Restart when the step does not move for this long; 0 = never.", 0, 604800), 0)}}),
      Json::object());
}

Json Cleanup() {
  return Default(
      Object("What is left of a finished run.",
             {{"podPolicy", Choice("Pods deleted when a run ends.", {"Running", "All", "None"}, "Running")},
              {"ttlSecondsAfterFinished",
               Integer("Delete pods, Service and config snapshot this long after the end; the job stays.", 0, 31536000)}}),
      Json::object());
}

Json Config(const std::string& description) {
  return Object(
      description,
      {{"inline", Text("pipeline.config text.", 262144)},
       {"configMapRef", Object("ConfigMap that holds it.",
                               {{"name", Text("ConfigMap.", 253)}, {"key", Default(Text("Key.", 253), "pipeline.config")}},
                               {"name"})},
       {"edits", Map("Passed as --edit_config_json: path -> value.")}});
}

Json Rendezvous() {
  return Default(
      Object("How the processes find each other.",
             {{"backend", Choice("Collectives: NCCL for GPUs, Gloo for CPUs.", {"nccl", "gloo"}, "nccl")},
              {"port", Default(Integer("Port of rank 0's store.", 1024, 65535), 29500)},
              {"timeoutSeconds", Default(Integer("Timeout of rendezvous and collectives.", 1, 86400), 1800)},
              {"interface", Text("Network interface (NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME).", 64)},
              {"env", ListOf("Environment of every worker, e.g. NCCL_DEBUG.",
                             Object("A variable.", {{"name", Text("Name.", 256)}, {"value", Text("Value.", 4096)}}, {"name"}),
                             128, "name")}}),
      Json::object());
}

Json Deadline() { return Integer("A run fails this long after it started; suspension starts it anew.", 1, 31536000); }

Json TrainJobRef() {
  return Object("A TrainJob of this namespace.",
                {{"name", Text("TrainJob.", 253)},
                 {"checkpoint", Default(With(Text("Latest, or a step number.", 20), "pattern", "^(Latest|[0-9]+)$"), "Latest")}},
                {"name"});
}

bool Has(const Json& object, const std::string& key) { return object.is_object() && object.contains(key); }
int Count(const Json& object, std::initializer_list<const char*> keys) {
  int count = 0;
  for (const char* key : keys) count += Has(object, key);
  return count;
}

std::vector<Rule> WorkerRules() {
  return {{"", "self.workers.gpusPerNode > 0 || self.rendezvous.backend == 'gloo'",
           "workers without GPUs need rendezvous.backend gloo",
           [](const Json& s) { return s["workers"]["gpusPerNode"] > 0 || s["rendezvous"]["backend"] == "gloo"; }},
          {"data.volumes.items", "(has(self.claimName) ? 1 : 0) + (has(self.hostPath) ? 1 : 0) == 1",
           "a volume is one of claimName and hostPath", [](const Json& s) {
             if (!Has(s, "data") || !Has(s["data"], "volumes")) return true;
             for (const Json& volume : s["data"]["volumes"]) {
               if (Count(volume, {"claimName", "hostPath"}) != 1) return false;
             }
             return true;
           }}};
}

std::vector<PrinterColumn> Columns(std::vector<PrinterColumn> middle) {
  std::vector<PrinterColumn> columns = {{"Phase", "string", ".status.phase"}, {"Run", "integer", ".status.run.number"}};
  columns.insert(columns.end(), middle.begin(), middle.end());
  columns.push_back({"Restarts", "integer", ".status.run.restarts"});
  columns.push_back({"Age", "date", ".metadata.creationTimestamp"});
  return columns;
}

Kind TrainJob() {
  Kind kind{kube::resources::kTrainJob, "trainjob", "atj", "Trains and evaluates a model from a pipeline.config."};
  kind.spec = Object(
      "What to train and how.",
      {{"image", Image(false)},
       {"imagePullPolicy", Text("As a container's.", 16)},
       {"serviceAccountName", Text("As a pod's.", 253)},
       {"config", Config("The TorchEasyRec pipeline.config: one of inline and configMapRef.")},
       {"workers", Workers()},
       {"rendezvous", Rendezvous()},
       {"data", Data()},
       {"checkpoint",
        Default(Object("Where checkpoints go.",
                       {{"modelDir", Default(With(Text("Mount path of the volume; runs write to <modelDir>/r<run>."),
                                                  "pattern", kMountPath),
                                             "/mnt/model")},
                        {"volume", Object("An existing claim or a template for one.",
                                          {{"claimName", Text("Existing PersistentVolumeClaim.", 253)},
                                           {"subPath", Text("Folder of the volume.")},
                                           {"claimTemplate",
                                            Object("Claim <job>-model, made by the operator.",
                                                   {{"storageClassName", Text("Storage class.", 253)},
                                                    {"accessModes", Default(ListOf("Access modes.", Text("A mode.", 32), 4),
                                                                            Json::array({"ReadWriteMany"}))},
                                                    {"size", Text("Quantity.", 32)}},
                                                   {"size"})}})},
                        {"retention", Choice("Whether a claim made from the template outlives the job.",
                                             {"Retain", "Delete"}, "Retain")}}),
                Json::object())},
       {"warmStart", Object("Start from older weights.",
                            {{"previousRun", Flag("The newest checkpoint of the run before.", false)},
                             {"path", Text("A checkpoint folder or .safetensors file.", 4096)},
                             {"ignoreOptimizer", Flag("Do not restore optimizer state.", false)}})},
       {"failurePolicy", FailurePolicy()},
       {"activeDeadlineSeconds", Deadline()},
       {"suspend", Flag("No pods while true; a later run goes on from the checkpoint.", false)},
       {"cleanup", Cleanup()},
       {"updatePolicy",
        Default(Object("What a change of the spec does.",
                       {{"finished", Choice("After the run ended.", {"Rerun", "Ignore"}, "Rerun")},
                        {"running", Choice("While it runs: finish first, start over, or ignore.",
                                           {"Queue", "Restart", "Ignore"}, "Queue")}}),
                Json::object())},
       {"historyLimit", Default(Integer("Runs kept in status.history.", 0, 100), 5)}},
      {"image", "config"});
  kind.rules = WorkerRules();
  kind.rules.push_back({"config", "(has(self.inline) ? 1 : 0) + (has(self.configMapRef) ? 1 : 0) == 1",
                        "exactly one of config.inline and config.configMapRef",
                        [](const Json& s) { return Count(s["config"], {"inline", "configMapRef"}) == 1; }});
  kind.rules.push_back({"checkpoint", "!has(self.volume) || (has(self.volume.claimName) ? 1 : 0) + "
                        "(has(self.volume.claimTemplate) ? 1 : 0) == 1",
                        "checkpoint.volume is one of claimName and claimTemplate", [](const Json& s) {
                          return !Has(s["checkpoint"], "volume") ||
                                 Count(s["checkpoint"]["volume"], {"claimName", "claimTemplate"}) == 1;
                        }});
  kind.rules.push_back({"", "self.workers.numNodes == 1 || has(self.checkpoint.volume)",
                        "several nodes need a shared checkpoint.volume", [](const Json& s) {
                          return s["workers"]["numNodes"] == 1 || Has(s["checkpoint"], "volume");
                        }});
  kind.columns = Columns({{"Workers", "string", ".status.workers.summary"},
                          {"Step", "integer", ".status.progress.globalStep"},
                          {"Percent", "string", ".status.progress.percent"},
                          {"Loss", "string", ".status.progress.loss"},
                          {"AUC", "string", ".status.progress.auc"}});
  return kind;
}

Kind EvalJob() {
  Kind kind{kube::resources::kEvalJob, "evaljob", "aej", "Evaluates a checkpoint and decides its gates."};
  kind.spec = Object(
      "What to evaluate.",
      {{"image", Image(true)},
       {"imagePullPolicy", Text("As a container's.", 16)},
       {"serviceAccountName", Text("As a pod's.", 253)},
       {"source", Object("The model.", {{"trainJobRef", TrainJobRef()}}, {"trainJobRef"})},
       {"config", Config("Empty: the config snapshot of the TrainJob's run.")},
       {"workers", Workers()},
       {"rendezvous", Rendezvous()},
       {"data", Data()},
       {"gates",
        ListOf("All have to hold for GatePassed.",
               Object("A threshold on a metric.",
                      {{"metric", Text("Name in the evaluation result, e.g. auc or auc_ctr.", 128)},
                       {"op", Choice("Comparison: value op threshold.", {"GTE", "GT", "LTE", "LT"}, "GTE")},
                       {"threshold", Decimal("Absolute threshold.")}},
                      {"metric", "threshold"}),
               32)},
       {"trigger", Choice("Evaluate each run of the source, or one only.", {"EachRun", "Once"}, "EachRun")},
       {"failurePolicy", FailurePolicy()},
       {"activeDeadlineSeconds", Deadline()},
       {"suspend", Flag("No pods while true.", false)},
       {"cleanup", Cleanup()},
       {"historyLimit", Default(Integer("Runs kept in status.history.", 0, 100), 5)}},
      {"source"});
  kind.rules = WorkerRules();
  kind.columns = Columns({{"Step", "integer", ".status.checkpoint.step"},
                          {"AUC", "string", ".status.progress.auc"},
                          {"Gate", "string", ".status.gate"}});
  return kind;
}

Kind ExportJob() {
  Kind kind{kube::resources::kExportJob, "exportjob", "axj", "Exports, verifies and publishes a model."};
  kind.spec = Object(
      "What to export and where to.",
      {{"image", Image(true)},
       {"imagePullPolicy", Text("As a container's.", 16)},
       {"serviceAccountName", Text("As a pod's.", 253)},
       {"source", Object("The model.", {{"evalJobRef", Object("An EvalJob whose gate has to pass.",
                                                              {{"name", Text("EvalJob.", 253)}}, {"name"})},
                                        {"trainJobRef", TrainJobRef()}})},
       {"config", Config("Empty: the config snapshot of the source.")},
       {"format", Choice("Artefact.", {"TorchScript"}, "TorchScript")},
       {"workers", Workers()},
       {"rendezvous", Rendezvous()},
       {"data", Data()},
       {"verify", Default(Object("Comparison of the artefact with the model before it is published.",
                                 {{"inputPath", Text("Rows to compare on. Empty: the evaluation data.", 4096)},
                                  {"maxAbsDiff", Default(Decimal("Largest difference of an output."), "0.00001")}}),
                          Json::object())},
       {"artifact", Object("Where the artefact is published: a versioned folder and a `latest` pointer.",
                           {{"uri", With(Text("file:// URI below a mounted volume.", 4096), "pattern", "^file:///.+$")},
                            {"claimName", Text("PersistentVolumeClaim.", 253)},
                            {"path", Text("Folder of the claim.")}})},
       {"trigger", Choice("Export each run of the source, or one only.", {"EachRun", "Once"}, "EachRun")},
       {"failurePolicy", FailurePolicy()},
       {"activeDeadlineSeconds", Deadline()},
       {"suspend", Flag("No pods while true.", false)},
       {"cleanup", Cleanup()},
       {"historyLimit", Default(Integer("Runs kept in status.history.", 0, 100), 5)}},
      {"source", "artifact"});
  kind.rules = WorkerRules();
  kind.rules.push_back({"source", "(has(self.evalJobRef) ? 1 : 0) + (has(self.trainJobRef) ? 1 : 0) == 1",
                        "exactly one of source.evalJobRef and source.trainJobRef",
                        [](const Json& s) { return Count(s["source"], {"evalJobRef", "trainJobRef"}) == 1; }});
  kind.rules.push_back({"artifact", "(has(self.uri) ? 1 : 0) + (has(self.claimName) ? 1 : 0) == 1",
                        "exactly one of artifact.uri and artifact.claimName",
                        [](const Json& s) { return Count(s["artifact"], {"uri", "claimName"}) == 1; }});
  kind.columns = Columns({{"Step", "integer", ".status.checkpoint.step"},
                          {"Format", "string", ".spec.format"},
                          {"Artifact", "string", ".status.artifact.uri"}});
  return kind;
}

}  // namespace

const std::vector<Kind>& Kinds() {
  static const std::vector<Kind> kinds = {TrainJob(), EvalJob(), ExportJob()};
  return kinds;
}

const Kind* FindKind(const kube::Resource& resource) {
  for (const Kind& kind : Kinds()) {
    if (kind.resource == resource) return &kind;
  }
  return nullptr;
}

}  // namespace anneal::api
