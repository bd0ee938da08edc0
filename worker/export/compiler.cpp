#include "worker/export/compiler.h"

#include <torch/version.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/export/boundary.h"
#include "worker/export/child_process.h"
#include "worker/export/compile_script.h"
#include "worker/export/lookup_source.h"
#include "worker/train/checkpoint/safetensors.h"

namespace anneal::exporting {

using nlohmann::json;

void RunCompiler(const std::string& python, const std::string& task, json spec) {
  spec["task"] = task;
  spec["torch"] = TORCH_VERSION;
  const std::string path = spec["output"].get<std::string>() + ".spec.json";
  checkpoint::WriteFileSynced(path, spec.dump(1));
  const bool onnx_tool = task == "run_onnx" || task == "tensorrt";
  const ChildResult child = RunChild({python, "-c", onnx_tool ? kOnnxToolsScript : kCompileScript, path});
  std::filesystem::remove(path);
  if (child.status == 0) return;
  const std::string setting = " (--compiler_python or ANNEAL_COMPILER_PYTHON names the Python to compile with)";
  // EX_CONFIG of compile.py: its last line says what the machine lacks.
  constexpr int kLacking = 78;
  if (child.status == 127 || child.status == kLacking) {
    const size_t end = child.last_lines.find_last_not_of('\n');
    const size_t line = child.last_lines.rfind('\n', end);
    throw ConfigError("the compiler cannot run: " +
                      child.last_lines.substr(line == std::string::npos ? 0 : line + 1, end - line) + setting);
  }
  throw Error(ExitCode::kInternal, "the compiler failed (" + task + "): " + child.last_lines);
}

Tf32 Tf32Of(const tzrec::protos::EasyRecConfig& config, const std::function<void(const std::string&)>& warn) {
  const auto& trained = config.train_config();
  const auto& exported = config.export_config();
  const auto choose = [&warn](const char* field, bool in_train, bool train, bool in_export, bool wanted, bool& chosen) {
    if (in_train && in_export && train != wanted && warn) {
      warn(std::string("export_config.") + field + " differs from train_config's: export_config counts");
    }
    if (in_train) chosen = train;
    if (in_export) chosen = wanted;
  };
  Tf32 tf32;
  choose("cuda_matmul_allow_tf32", trained.has_cuda_matmul_allow_tf32(), trained.cuda_matmul_allow_tf32(),
         exported.has_cuda_matmul_allow_tf32(), exported.cuda_matmul_allow_tf32(), tf32.matmul);
  choose("cudnn_allow_tf32", trained.has_cudnn_allow_tf32(), trained.cudnn_allow_tf32(),
         exported.has_cudnn_allow_tf32(), exported.cudnn_allow_tf32(), tf32.cudnn);
  return tf32;
}

namespace {

/// A sequence group: what it is called at the boundary and made from. A part of the query is {"lookup": index in
/// plan.lookups} or {"column", "width"} of the dense matrix, one of the sequence a lookup or {"dense": index in
/// dense_sequences}.
json SequenceSpec(const models::EmbeddingPlan& plan, const models::SequenceGroup& group,
                  const Boundary::Sequence& boundary) {
  json spec = {{"query", boundary.query},
               {"sequence", boundary.sequence},
               {"length", boundary.length},
               {"query_width", group.query_width},
               {"sequence_width", group.sequence_width},
               {"most", group.most},
               {"query_parts", json::array()},
               {"parts", json::array()}};
  for (const auto& part : group.query) {
    if (part.looked_up) {
      spec["query_parts"].push_back({{"lookup", LookupOf(plan, part)}});
    } else {
      spec["query_parts"].push_back({{"column", part.column}, {"width", part.width}});
    }
  }
  for (const auto& part : group.sequence) {
    spec["parts"].push_back(part.looked_up ? json{{"lookup", LookupOf(plan, part)}} : json{{"dense", part.feature}});
  }
  return spec;
}

}  // namespace

json CompilerSpec(eval::TrainedModel& model, const Settings& settings, const std::string& module,
                  const std::string& output) {
  const auto& network = model.network();
  const auto& plan = network.plan();
  const Boundary boundary = BoundaryOf(plan);
  const auto tiled = [&settings](const features::Feature& feature) {
    return settings.input_tile != 0 && feature.user_side();
  };
  const auto& all = model.features().all();
  if (settings.input_tile != 0 && std::all_of(all.begin(), all.end(), tiled)) {
    throw ConfigError("INPUT_TILE=" + std::to_string(settings.input_tile) +
                      ": every feature is the user's, so nothing tells the number of items; a TorchScript export is "
                      "given it");
  }
  const Tf32 tf32 = Tf32Of(model.config());
  json spec = {{"module", module},
               {"output", output},
               {"device", settings.device},
               {"autocast", model.config().export_config().mixed_precision()},
               {"matmul_tf32", tf32.matmul},
               {"cudnn_tf32", tf32.cudnn},
               {"pooled", {{"name", boundary.pooled}, {"width", plan.pooled_width}}},
               {"dense", {{"name", boundary.dense}, {"width", plan.dense_width}}},
               {"outputs", network.prediction_names()},
               {"tile", settings.input_tile != 0},
               {"sparse", json::array()},
               {"dense_features", json::array()},
               {"dense_sequences", json::array()},
               {"tables", json::array()},
               {"lookups", json::array()},
               {"sequences", json::array()}};
  for (const auto* feature : model.features().sparse()) {
    spec["sparse"].push_back({{"name", feature->name},
                              {"index", feature->index},
                              {"weighted", model.features().weighted()},
                              {"tile", tiled(*feature)}});
  }
  for (const auto* feature : model.features().dense()) {
    spec["dense_features"].push_back(
        {{"name", feature->name}, {"width", feature->value_dim}, {"tile", tiled(*feature)}});
  }
  for (const auto* feature : model.features().dense_sequences()) {
    spec["dense_sequences"].push_back(
        {{"name", feature->name}, {"width", feature->value_dim}, {"tile", tiled(*feature)}});
  }
  for (const auto& table : plan.tables) {
    spec["tables"].push_back({{"state_name", table.state_name()},
                              {"rows", table.rows},
                              {"type", TableTypeName(table.sequence ? settings.sequence : settings.pooled)}});
  }
  for (const auto& lookup : plan.lookups) {
    const auto& feature = *model.features().sparse()[lookup.feature];
    spec["lookups"].push_back({{"table", lookup.table},
                               {"feature", feature.name},
                               {"tile", tiled(feature)},
                               {"mean", lookup.pooling == features::Pooling::kMean},
                               {"sequence", plan.tables[lookup.table].sequence},
                               {"per_element", lookup.per_element},
                               {"first_only", lookup.first_only}});
  }
  for (size_t g = 0; g < plan.sequence_groups.size(); ++g)
    spec["sequences"].push_back(SequenceSpec(plan, plan.sequence_groups[g], boundary.sequences[g]));
  return spec;
}

}  // namespace anneal::exporting
