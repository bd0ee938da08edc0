#include "operator/api/blocks.h"

#include "operator/api/schema_words.h"

namespace anneal::api {

using kube::Json;

bool Has(const Json& object, const std::string& key) { return object.is_object() && object.contains(key); }

int Count(const Json& object, std::initializer_list<const char*> keys) {
  int count = 0;
  for (const char* key : keys) count += Has(object, key);
  return count;
}

Rule OneOf(const std::string& path, const std::vector<std::string>& keys,
           const std::function<std::vector<Json>(const Json&)>& at) {
  std::string cel, names;
  for (size_t i = 0; i < keys.size(); ++i) {
    cel += (i ? " + " : "") + std::string("(has(self.") + keys[i] + ") ? 1 : 0)";
    names += (i == 0 ? "" : i + 1 == keys.size() ? " and " : ", ") + keys[i];
  }
  return {path, cel + " == 1", "exactly one of " + names, [keys, at](const Json& spec) {
            for (const Json& object : at(spec)) {
              int count = 0;
              for (const std::string& key : keys) count += Has(object, key);
              if (count != 1) return false;
            }
            return true;
          }};
}

Json ImageBlock(bool from_source) {
  return Text(std::string("Worker image.") + (from_source ? " Empty: the source TrainJob's." : ""), 512);
}

Json SecretRefBlock(const std::string& description) {
  return Object(description, {{"name", Text("Secret of this namespace.", 253)}}, {"name"});
}

Json ConfigBlock(const std::string& description) {
  return Object(
      description,
      {{"inline", Text("pipeline.config text.", 262144)},
       {"configMapRef",
        Object("ConfigMap that holds it.",
               {{"name", Text("ConfigMap.", 253)}, {"key", Default(Text("Key.", 253), "pipeline.config")}}, {"name"})},
       {"edits", Map("Passed as --edit_config_json: path -> value.")}});
}

Json TrainJobRefBlock() {
  return Object(
      "A TrainJob of this namespace.",
      {{"name", Text("TrainJob.", 253)},
       {"run", Default(With(Text("Latest: the current run, when it has ended. A number: that run, while status.history "
                                 "keeps it.",
                                 20),
                            "pattern", "^(Latest|[1-9][0-9]*)$"),
                       "Latest")},
       {"checkpoint",
        Default(With(Text("Latest, a step number, or Best: by export_config.best_exporter_metric, for a config "
                          "with exporter_type 'best', which keeps that checkpoint.",
                          20),
                     "pattern", "^(Latest|Best|[0-9]+)$"),
                "Latest")}},
      {"name"});
}

Json CheckpointRefBlock() {
  return Object(
      "A checkpoint folder of a claim, without a TrainJob. image and config have to be named.",
      {{"claimName", Text("PersistentVolumeClaim.", 253)},
       {"subPath", Text("Folder of the volume.")},
       {"path", With(Text("Folder below that, e.g. r3-0a1b2c3d/model.ckpt-900.", 1024), "pattern", "^[^/:][^:]*$")}},
      {"claimName", "path"});
}

namespace {

Json Workers() {
  return Default(
      Object(
          "The pods of a run: numNodes pods with gpusPerNode GPUs each, one process per GPU.",
          {{"numNodes", Default(Integer("Pods, one per node.", 1, 1024), 1)},
           {"gpusPerNode", Default(Integer("GPUs per pod; 0 trains on the CPU.", 0, 16), 1)},
           {"gpuResourceName",
            Default(With(Text("Extended resource of a GPU, e.g. a MIG profile.", 253), "minLength", 1),
                    "nvidia.com/gpu")},
           {"procsPerNode", Integer("Processes per pod. Unset: gpusPerNode, at least 1.", 1, 128)},
           {"resources",
            Object("CPU, memory and other resources of a worker. GPUs are added: they are not named here.",
                   {{"requests", Quantities("As a container's.")}, {"limits", Quantities("As a container's.")}})},
           {"nodeSelector", Map("As a pod's.")},
           {"tolerations", ListOf("As a pod's.", Opaque("A toleration."), 32)},
           {"affinity", Opaque("As a pod's.")},
           {"topologySpreadConstraints", ListOf("As a pod's.", Opaque("A constraint."), 8)},
           {"hostNetwork", Flag("Pods use the node's network; for fabrics without a network plugin.", false)},
           {"shmSize", Default(With(Text("Size of the memory-backed /dev/shm.", 32), "pattern", kQuantity), "16Gi")},
           {"terminationGracePeriodSeconds", Default(Integer("Time for the checkpoint after SIGTERM.", 1, 86400), 300)},
           {"podTemplate",
            Opaque(
                "Pod template merged over the worker pods, as kubectl's strategic merge: containers, volumes, env and "
                "mounts by name; the worker's container is `worker`. Name, labels, owner, hostname, subdomain and "
                "restartPolicy stay the operator's.")}}),
      Json::object());
}

Json Data() {
  return Object(
      "Where the rows are.",
      {{"trainInputPath", Text("Overrides train_input_path of the config.", 4096)},
       {"evalInputPath", Text("Overrides eval_input_path of the config.", 4096)},
       {"volumes",
        ListOf("Volumes mounted into the workers.",
               Object("A claim, a folder of the node, or an empty cache.",
                      {{"name", With(Text("Volume name.", 58), "pattern", "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")},
                       {"mountPath", With(Text("Absolute path in the container."), "pattern", kAbsolutePath)},
                       {"readOnly", Flag("Mount read-only; a cache never is.", true)},
                       {"claimName", Text("PersistentVolumeClaim.", 253)},
                       {"subPath", Text("Folder of the volume.")},
                       {"hostPath", Text("Folder of the node.")},
                       {"ephemeralCache", Object("Empty folder of the node that goes with the pod.",
                                                 {{"size", With(Text("Most bytes; the pod is evicted above.", 32),
                                                                "pattern", kQuantity)}},
                                                 {"size"})}},
                      {"name", "mountPath"}),
               32, "name")},
       {"credentials",
        ListOf("Secrets given to the workers. The operator never reads them.",
               Object("A Secret as environment or files.",
                      {{"secretRef", SecretRefBlock("The Secret.")},
                       {"as", Choice("Env: every key is a variable. File: every key is a file below mountPath.",
                                     {"Env", "File"}, "Env")},
                       {"mountPath", With(Text("Folder in the container, for File."), "pattern", kAbsolutePath)}},
                      {"secretRef"}),
               16)}});
}

Json FailureRules() {
  const Json codes = Object("Exit codes of the blamed worker.",
                            {{"operator", Choice("In or NotIn.", {"In", "NotIn"}, "In")},
                             {"values", ListOf("Exit codes.", Integer("An exit code.", 1, 255), 64)}},
                            {"values"});
  const Json conditions =
      ListOf("Conditions of the blamed worker's pod; any of them.",
             Object("A condition that is True.",
                    {{"type", Text("E.g. DisruptionTarget.", 128)}, {"reason", Text("Empty: any.", 128)}}, {"type"}),
             8);
  return ListOf(
      "First match wins, before the built-in rules: DisruptionTarget RestartDoNotCount; OOMKilled Fail; exit codes 2, "
      "64 and 78 "
      "Fail; 143 RestartDoNotCount; else Restart.",
      Object(
          "One matcher and what it does.",
          {{"name", Text("For the condition's message.", 63)},
           {"action",
            {{"type", "string"}, {"description", "What to do."}, {"enum", {"Fail", "Restart", "RestartDoNotCount"}}}},
           {"onExitCodes", codes},
           {"onPodConditions", conditions},
           {"onReasons",
            ListOf(
                "Reasons of the blamed worker's end: OOMKilled, Evicted, NodeLost, PodDeleted, HangTimeout, Error, ...",
                Text("A reason.", 128), 16)}},
          {"action"}),
      20);
}

Json FailurePolicy() {
  return Default(
      Object("What happens when a worker fails. All workers of an attempt are restarted together.",
             {{"maxRestarts", Default(Integer("Counted restarts before the run fails.", 0, 1000), 3)},
              {"backoff",
               Default(Object("Wait before a restart: initial x 2^n, at most max.",
                              {{"initialSeconds", Default(Integer("First wait.", 0, 3600), 10)},
                               {"maxSeconds", Default(Integer("Longest wait.", 0, 86400), 600)},
                               {"resetAfterSeconds",
                                Default(Integer("After an attempt that ran so long the first wait again.", 1, 604800),
                                        3600)}}),
                       Json::object())},
              {"rules", FailureRules()},
              {"avoidNodes",
               Choice("Nodes that later attempts of the run keep away from, where they can: of workers that were lost "
                      "with their node or hung (Lost), of every worker that failed (Failed), or none (Never).",
                      {"Lost", "Failed", "Never"}, "Lost")},
              {"pendingTimeoutSeconds",
               Default(Integer("Fail when not all workers run after this long; 0 = never.", 0, 604800), 0)},
              {"progressTimeoutSeconds",
               Default(Integer("Restart when the step does not move for this long; 0 = never.", 0, 604800), 0)},
              {"nodeLostTimeoutSeconds",
               Default(
                   Integer(
                       "A worker whose node is silent, or that does not end when deleted, is given up after this long: "
                       "force-deleted and restarted without counting; 0 = never.",
                       0, 604800),
                   300)}}),
      Json::object());
}

Json Cleanup() {
  return Default(
      Object(
          "What is left of a finished run.",
          {{"podPolicy", Choice("Pods deleted when a run ends.", {"Running", "All", "None"}, "Running")},
           {"ttlSecondsAfterFinished",
            Integer("Delete pods, Service and config snapshot this long after the end; the job stays.", 0, 31536000)}}),
      Json::object());
}

Json Rendezvous() {
  return Default(
      Object("How the processes find each other.",
             {{"backend", Choice("Collectives: NCCL for GPUs, Gloo for CPUs.", {"nccl", "gloo"}, "nccl")},
              {"port", Default(Integer("Port of rank 0's store.", 1024, 65535), 29500)},
              {"timeoutSeconds", Default(Integer("Timeout of rendezvous and collectives.", 1, 86400), 1800)},
              {"interface", Text("Network interface (NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME).", 64)},
              {"rdma",
               Object("RDMA devices of a worker; adds the resource and the IPC_LOCK capability.",
                      {{"resourceName", With(Text("Extended resource, e.g. rdma/hca_shared.", 253), "minLength", 1)},
                       {"count", Default(Integer("Devices per pod.", 1, 64), 1)},
                       {"hcas", ListOf("Adapters for NCCL_IB_HCA, e.g. mlx5_0.", Text("An adapter.", 64), 32)}},
                      {"resourceName"})},
              {"env",
               ListOf("Environment of every worker, e.g. NCCL_DEBUG.",
                      Object("A variable.", {{"name", Text("Name.", 256)}, {"value", Text("Value.", 4096)}}, {"name"}),
                      128, "name")}}),
      Json::object());
}

Json Scheduling() {
  return Default(
      Object(
          "Queues, priorities and gangs.",
          {{"queueName", Text("Kueue LocalQueue.", 253)},
           {"schedulerName", Text("As a pod's. Empty: volcano for gang mode Volcano, else the cluster's.", 253)},
           {"priorityClassName", Text("As a pod's.", 253)},
           {"gang",
            Default(Object("Whether all workers are scheduled together or not at all.",
                           {{"mode",
                             Choice("None; Kueue: a pod group per attempt in queueName; Volcano: a PodGroup per run.",
                                    {"None", "Kueue", "Volcano"}, "None")},
                            {"queue", Text("Volcano queue.", 253)}}),
                    Json::object())}}),
      Json::object());
}

}  // namespace

Json CommonFields() {
  return {{"imagePullPolicy", With(Text("As a container's.", 16), "enum", {"Always", "IfNotPresent", "Never"})},
          {"imagePullSecrets", ListOf("Secrets for the image registry.", SecretRefBlock("A Secret."), 8)},
          {"serviceAccountName", Text("As a pod's. Its token is not mounted.", 253)},
          {"workers", Workers()},
          {"rendezvous", Rendezvous()},
          {"data", Data()},
          {"scheduling", Scheduling()},
          {"failurePolicy", FailurePolicy()},
          {"activeDeadlineSeconds",
           Integer("A run fails this long after it started; suspension starts it anew.", 1, 31536000)},
          {"suspend", Flag("No pods while true; resumed, the run goes on where its checkpoint is.", false)},
          {"cleanup", Cleanup()},
          {"historyLimit", Default(Integer("Runs kept in status.history.", 0, 100), 5)}};
}

std::vector<Rule> CommonRules() {
  const auto list = [](const char* block, const char* field) {
    return [block, field](const Json& spec) {
      const Json items = spec.value(block, Json::object()).value(field, Json::array());
      return std::vector<Json>(items.begin(), items.end());
    };
  };
  return {
      {"", "self.workers.gpusPerNode > 0 || self.rendezvous.backend == 'gloo'",
       "workers without GPUs need rendezvous.backend gloo",
       [](const Json& s) { return s["workers"]["gpusPerNode"] > 0 || s["rendezvous"]["backend"] == "gloo"; }},
      {"workers",
       "!has(self.resources) || (!(has(self.resources.requests) && self.gpuResourceName in self.resources.requests) && "
       "!(has(self.resources.limits) && self.gpuResourceName in self.resources.limits))",
       "GPUs are asked for with gpusPerNode, not in resources",
       [](const Json& s) {
         const Json resources = s["workers"].value("resources", Json::object());
         const std::string gpu = s["workers"]["gpuResourceName"];
         return !Has(resources.value("requests", Json()), gpu) && !Has(resources.value("limits", Json()), gpu);
       }},
      OneOf("data.volumes.items", {"claimName", "hostPath", "ephemeralCache"}, list("data", "volumes")),
      {"data.credentials.items", "(self.as == 'File') == has(self.mountPath)",
       "mountPath is needed for File, and only there",
       [at = list("data", "credentials")](const Json& s) {
         for (const Json& secret : at(s)) {
           if ((secret["as"] == "File") != secret.contains("mountPath")) return false;
         }
         return true;
       }},
      OneOf("failurePolicy.rules.items", {"onExitCodes", "onPodConditions", "onReasons"},
            list("failurePolicy", "rules")),
      {"failurePolicy.backoff", "self.initialSeconds <= self.maxSeconds", "initialSeconds is at most maxSeconds",
       [](const Json& s) {
         const Json& backoff = s["failurePolicy"]["backoff"];
         return backoff["initialSeconds"] <= backoff["maxSeconds"];
       }},
      {"scheduling", "self.gang.mode != 'Kueue' || has(self.queueName)", "gang.mode Kueue needs queueName",
       [](const Json& s) { return s["scheduling"]["gang"]["mode"] != "Kueue" || Has(s["scheduling"], "queueName"); }},
      {"scheduling", "self.gang.mode != 'Volcano' || !has(self.queueName)",
       "queueName is Kueue's; for gang.mode Volcano set gang.queue",
       [](const Json& s) {
         return s["scheduling"]["gang"]["mode"] != "Volcano" || !Has(s["scheduling"], "queueName");
       }},
      {"scheduling", "self.gang.mode == 'Volcano' || !has(self.gang.queue)", "gang.queue belongs to gang.mode Volcano",
       [](const Json& s) {
         return s["scheduling"]["gang"]["mode"] == "Volcano" || !Has(s["scheduling"]["gang"], "queue");
       }},
  };
}

}  // namespace anneal::api
