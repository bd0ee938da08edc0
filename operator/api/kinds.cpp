// The fields of the three kinds. Semantics: docs/user-guide/.
#include "operator/api/blocks.h"
#include "operator/api/schema_words.h"

namespace anneal::api {
namespace {

using kube::Json;

/// An object of spec by path; none when a part is missing.
std::function<std::vector<Json>(const Json&)> At(const std::string& pointer) {
  return [path = Json::json_pointer(pointer)](const Json& spec) {
    return spec.contains(path) ? std::vector<Json>{spec.at(path)} : std::vector<Json>{};
  };
}

Json WithCommon(Json fields) {
  const Json common = CommonFields();
  fields.update(common);
  return fields;
}

std::vector<PrinterColumn> Columns(std::vector<PrinterColumn> middle) {
  std::vector<PrinterColumn> columns = {{"Phase", "string", ".status.phase"}, {"Run", "integer", ".status.run.number"}};
  columns.insert(columns.end(), middle.begin(), middle.end());
  columns.push_back({"Restarts", "integer", ".status.run.restarts"});
  columns.push_back({"Age", "date", ".metadata.creationTimestamp"});
  columns.push_back({"Reason", "string", ".status.conditions[?(@.type==\"Ready\")].reason", 1});
  columns.push_back({"Queue", "string", ".spec.scheduling.queueName", 1});
  return columns;
}

Json Checkpoint() {
  const Json claim_template =
      Object("Claim <job>-model, made by the operator. Immutable.",
             {{"storageClassName", Text("Storage class. Empty: the cluster's default.", 253)},
              {"accessModes", Default(ListOf("Access modes.", Text("A mode.", 32), 4), Json::array({"ReadWriteMany"}))},
              {"size", With(Text("Quantity.", 32), "pattern", kQuantity)}},
             {"size"});
  return Default(
      Object("Where checkpoints go.",
             {{"modelDir", Default(With(Text("Mount path of the volume; a run writes to <modelDir>/<status.run.id>."),
                                        "pattern", kAbsolutePath),
                                   "/mnt/model")},
              {"volume", Object("An existing claim or a template for one.",
                                {{"claimName", Text("Existing PersistentVolumeClaim.", 253)},
                                 {"subPath", Text("Folder of the volume.")},
                                 {"claimTemplate", claim_template}})},
              {"retention",
               Choice("Whether a claim made from the template outlives the job.", {"Retain", "Delete"}, "Retain")}}),
      Json::object());
}

Json Artifact(const std::string& description) {
  const Json s3 =
      Object("Of an s3:// uri.",
             {{"endpoint", With(Text("http(s)://host[:port] of an S3-compatible store. Empty: AWS.", 1024), "pattern",
                                "^https?://[^@/]+/?$")},
              {"region", Text("Empty: $AWS_REGION, else us-east-1.", 64)},
              {"secretRef", SecretRefBlock("Secret whose keys become variables of the worker: AWS_ACCESS_KEY_ID, "
                                           "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN. The operator never reads it.")}});
  return Object(description, {{"uri", With(Text("s3://bucket/prefix, or a file:// URI below a mounted volume.", 4096),
                                           "pattern", "^(file:///.+|s3://[^/@?#]+(/[^@?#]*)?)$")},
                              {"s3", s3},
                              {"claimName", Text("PersistentVolumeClaim.", 253)},
                              {"path", Text("Folder of the claim.")}});
}

/// Rules of an Artifact at a path of the spec, where there is one.
std::vector<Rule> ArtifactRules(const std::string& path, const std::string& pointer) {
  return {OneOf(path, {"uri", "claimName"}, At(pointer)),
          {path, "!has(self.s3) || (has(self.uri) && self.uri.startsWith('s3://'))", "s3 is for an s3:// uri",
           [at = At(pointer)](const Json& s) {
             for (const Json& artifact : at(s)) {
               if (artifact.contains("s3") && !artifact.value("uri", "").starts_with("s3://")) return false;
             }
             return true;
           }}};
}

Kind TrainJob() {
  Kind kind{kube::resources::kTrainJob, "trainjob", "atj", "Trains and evaluates a model from a pipeline.config."};
  kind.spec = Object(
      "What to train and how.",
      WithCommon(
          {{"image", ImageBlock(false)},
           {"config", ConfigBlock("The TorchEasyRec pipeline.config: one of inline and configMapRef.")},
           {"checkpoint", Checkpoint()},
           {"artifacts",
            Object("What leaves the checkpoint volume.",
                   {{"upload", Artifact("Where the last checkpoint of a run that succeeded is published: a "
                                        "versioned folder and a `latest` pointer.")}})},
           {"warmStart",
            Object("Start from older weights.",
                   {{"previousRun",
                     Flag("The newest checkpoint of the latest earlier run that has one; none: a cold start.", false)},
                    {"path", Text("A checkpoint folder or .safetensors file.", 4096)},
                    {"trainJobRef", TrainJobRefBlock()},
                    {"ignoreOptimizer", Flag("Do not restore optimizer state.", false)}})},
           {"updatePolicy", Default(Object("What a change of the spec does.",
                                           {{"finished", Choice("After the run ended.", {"Rerun", "Ignore"}, "Rerun")},
                                            {"running", Choice("While it runs: finish first, start over, or ignore.",
                                                               {"Queue", "Restart", "Ignore"}, "Queue")}}),
                                    Json::object())}}),
      {"image", "config"});
  kind.rules = CommonRules();
  kind.rules.push_back(OneOf("config", {"inline", "configMapRef"}, At("/config")));
  kind.rules.push_back(OneOf("checkpoint.volume", {"claimName", "claimTemplate"}, At("/checkpoint/volume")));
  kind.rules.push_back({"checkpoint.volume.claimTemplate", "self == oldSelf",
                        "claimTemplate is immutable: the claim exists", [](const Json&) { return true; }});
  kind.rules.push_back(
      {"checkpoint", "self.retention != 'Delete' || (has(self.volume) && has(self.volume.claimTemplate))",
       "retention Delete is for a claimTemplate: an existing claim is never deleted", [](const Json& s) {
         const Json& checkpoint = s["checkpoint"];
         return checkpoint["retention"] != "Delete" || Has(checkpoint.value("volume", Json()), "claimTemplate");
       }});
  kind.rules.push_back({"", "self.workers.numNodes == 1 || has(self.checkpoint.volume)",
                        "several nodes need a shared checkpoint.volume",
                        [](const Json& s) { return s["workers"]["numNodes"] == 1 || Has(s["checkpoint"], "volume"); }});
  kind.rules.push_back({"", "!has(self.warmStart) || !self.warmStart.previousRun || has(self.checkpoint.volume)",
                        "warmStart.previousRun needs a checkpoint.volume", [](const Json& s) {
                          return !s.value("warmStart", Json::object()).value("previousRun", false) ||
                                 Has(s["checkpoint"], "volume");
                        }});
  kind.rules.push_back({"warmStart",
                        "(self.previousRun ? 1 : 0) + (has(self.path) ? 1 : 0) + (has(self.trainJobRef) ? 1 : 0) <= 1",
                        "at most one of previousRun, path and trainJobRef", [](const Json& s) {
                          const Json warm = s.value("warmStart", Json::object());
                          return warm.value("previousRun", false) + Count(warm, {"path", "trainJobRef"}) <= 1;
                        }});
  for (Rule& rule : ArtifactRules("artifacts.upload", "/artifacts/upload")) kind.rules.push_back(std::move(rule));
  kind.columns = Columns({{"Workers", "string", ".status.workers.summary"},
                          {"Step", "integer", ".status.progress.globalStep"},
                          {"Percent", "string", ".status.progress.percent"},
                          {"Loss", "string", ".status.progress.loss"},
                          {"AUC", "string", ".status.progress.auc"},
                          {"Checkpoint", "integer", ".status.progress.lastCheckpoint.step", 1}});
  return kind;
}

/// A checkpoint says neither which image nor which config made it.
Rule CheckpointNeedsMore() {
  return {"",
          "!has(self.source.checkpoint) || (has(self.image) && has(self.config) && (has(self.config.inline) || "
          "has(self.config.configMapRef)))",
          "source.checkpoint needs image and config", [](const Json& s) {
            return !s["source"].contains("checkpoint") ||
                   (s.contains("image") && Count(s.value("config", Json::object()), {"inline", "configMapRef"}) > 0);
          }};
}

Json Gates() {
  const Json baseline = Object(
      "A value of another evaluation or of a ConfigMap.",
      {{"evalJobRef", Object("An EvalJob that is Complete: the same metric of its last run.",
                             {{"name", Text("EvalJob.", 253)}}, {"name"})},
       {"baselineConfigMap", Object("A ConfigMap that holds the value as text.",
                                    {{"name", Text("ConfigMap.", 253)}, {"key", Text("Key.", 253)}}, {"name", "key"})},
       {"maxDrop",
        Default(With(Text("How much worse than the baseline is allowed.", 32), "pattern", "^[0-9]+(\\.[0-9]+)?$"),
                "0")}});
  return ListOf("All have to hold for GatePassed.",
                Object("A threshold on a metric, absolute or relative to a baseline.",
                       {{"metric", Text("Name in the evaluation result, e.g. auc or auc_ctr.", 128)},
                        {"op", Choice("Comparison: value op threshold. GTE and GT: higher is better.",
                                      {"GTE", "GT", "LTE", "LT"}, "GTE")},
                        {"threshold", Decimal("Absolute threshold.")},
                        {"relativeTo", baseline}},
                       {"metric"}),
                32);
}

std::vector<Json> GatesOf(const Json& spec) {
  const Json gates = spec.value("gates", Json::array());
  return {gates.begin(), gates.end()};
}

Kind EvalJob() {
  Kind kind{kube::resources::kEvalJob, "evaljob", "aej", "Evaluates a checkpoint and decides its gates."};
  kind.spec = Object(
      "What to evaluate.",
      WithCommon(
          {{"image", ImageBlock(true)},
           {"source",
            Object("The model.", {{"trainJobRef", TrainJobRefBlock()}, {"checkpoint", CheckpointRefBlock()}})},
           {"config", ConfigBlock("Empty: the config snapshot of the TrainJob's run.")},
           {"gates", Gates()},
           {"trigger", Choice("Evaluate each run of the source, or one only.", {"EachRun", "Once"}, "EachRun")}}),
      {"source"});
  kind.rules = CommonRules();
  kind.rules.push_back(OneOf("source", {"trainJobRef", "checkpoint"}, At("/source")));
  kind.rules.push_back(CheckpointNeedsMore());
  kind.rules.push_back(OneOf("gates.items", {"threshold", "relativeTo"}, GatesOf));
  kind.rules.push_back(OneOf("gates.items.relativeTo", {"evalJobRef", "baselineConfigMap"}, [](const Json& spec) {
    std::vector<Json> baselines;
    for (const Json& gate : GatesOf(spec)) {
      if (gate.contains("relativeTo")) baselines.push_back(gate["relativeTo"]);
    }
    return baselines;
  }));
  kind.columns = Columns({{"Step", "integer", ".status.checkpoint.step"},
                          {"AUC", "string", ".status.progress.auc"},
                          {"Gate", "string", ".status.gate"}});
  return kind;
}

Json TableType(const std::string& description) {
  return With(Text(description, 16), "enum", {"FP32", "FP16", "INT8", "INT4", "INT2"});
}

Kind ExportJob() {
  Kind kind{kube::resources::kExportJob, "exportjob", "axj", "Exports, verifies and publishes a model."};
  kind.spec = Object(
      "What to export and where to.",
      WithCommon(
          {{"image", ImageBlock(true)},
           {"source", Object("The model.", {{"evalJobRef", Object("An EvalJob whose gate has to pass.",
                                                                  {{"name", Text("EvalJob.", 253)}}, {"name"})},
                                            {"trainJobRef", TrainJobRefBlock()},
                                            {"checkpoint", CheckpointRefBlock()}})},
           {"config", ConfigBlock("Empty: the config snapshot of the source.")},
           {"format",
            Choice("Artefact; docs/export.md says what each is for and needs.",
                   {"TorchScript", "AOT", "AOTUnified", "ONNX", "TensorRT", "RTP", "Distributed"}, "TorchScript")},
           {"verify", Default(Object("Comparison of the artefact with the model before it is published.",
                                     {{"inputPath", Text("Rows to compare on. Empty: the evaluation data.", 4096)},
                                      {"maxAbsDiff", Default(Decimal("Largest difference of an output."), "0.00001")}}),
                              Json::object())},
           {"quantization", TableType("Number type of pooled tables. Empty: $QUANT_EMB, else INT8.")},
           {"sequenceQuantization", TableType("Number type of sequence tables. Empty: $QUANT_EC_EMB, else FP32.")},
           {"inputTile", Integer("Features of one user are tiled over the request's items: 2 their ids, 3 their "
                                 "embeddings; 0 and 1 not. Empty: $INPUT_TILE, else 0.",
                                 0, 3)},
           {"artifact", Artifact("Where the artefact is published: a versioned folder and a `latest` pointer.")},
           {"trigger", Choice("Export each run of the source, or one only.", {"EachRun", "Once"}, "EachRun")}}),
      {"source", "artifact"});
  kind.rules = CommonRules();
  kind.rules.push_back({"workers", "self.numNodes == 1", "an export runs in one pod",
                        [](const Json& s) { return s["workers"]["numNodes"] == 1; }});
  kind.rules.push_back(OneOf("source", {"evalJobRef", "trainJobRef", "checkpoint"}, At("/source")));
  kind.rules.push_back(CheckpointNeedsMore());
  for (Rule& rule : ArtifactRules("artifact", "/artifact")) kind.rules.push_back(std::move(rule));
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
