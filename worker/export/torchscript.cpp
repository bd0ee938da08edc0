#include "worker/export/torchscript.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/resolver.h>
#include <torch/csrc/jit/frontend/sugared_value.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/serialization/export.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <numeric>
#include <sstream>

#include "worker/config/error.h"
#include "worker/export/boundary.h"
#include "worker/export/lookup_source.h"
#include "worker/train/checkpoint/archive_sink.h"
#include "worker/train/checkpoint/files.h"
#include "worker/train/checkpoint/safetensors.h"

namespace anneal::exporting {
namespace {

using torch::jit::Module;

std::vector<std::string> SplitName(const std::string& name) {
  std::vector<std::string> parts;
  std::istringstream in(name);
  for (std::string part; std::getline(in, part, '.');) parts.push_back(part);
  return parts;
}

/// Registers a tensor below `root` under its dotted name, making the modules on the way.
void Register(Module root, const std::string& name, const at::Tensor& tensor, bool buffer) {
  const auto parts = SplitName(name);
  Module at = root;
  std::string path = "anneal";
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    path += "_" + parts[i];
    // Names may hold what no name of a type can.
    std::replace_if(
        path.begin(), path.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
    if (!at.hasattr(parts[i])) {
      // One type per module: their attributes differ.
      Module child(c10::QualifiedName(path), root._ivalue()->compilation_unit(), /*shouldMangle=*/true);
      at.register_module(parts[i], child);
    }
    at = at.attr(parts[i]).toModule();
  }
  at.register_parameter(parts.back(), tensor, buffer);
}

/// `quantized` is no name of the stock resolver.
struct OperatorResolver : torch::jit::Resolver {
  std::shared_ptr<torch::jit::SugaredValue> resolveValue(const std::string& name, torch::jit::GraphFunction& method,
                                                         const torch::jit::SourceRange& at) override {
    if (name == "quantized") return std::make_shared<torch::jit::BuiltinModule>("quantized");
    return torch::jit::nativeResolver()->resolveValue(name, method, at);
  }
  c10::TypePtr resolveType(const std::string& name, const torch::jit::SourceRange& at) override {
    return torch::jit::nativeResolver()->resolveType(name, at);
  }
};

/// "found[0], found[1], ...": the results of lookup.
std::string Found(size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += (i > 0 ? ", found[" : "found[") + std::to_string(i) + "]";
  return text;
}

/// forward: dictionary in, lookups, dense model, dictionary out.
std::string ForwardSource(const std::vector<std::string>& names, size_t inputs) {
  std::vector<size_t> order(names.size());
  std::iota(order.begin(), order.end(), 0);
  return R"(
def forward(self, data: Dict[str, Tensor], device: str = "cpu") -> Dict[str, Tensor]:
    found = self.lookup(data, device)
    outputs = self.model.dense_forward()" +
         Found(inputs) + ")\n" + ReturnOutputs(names, order);
}

/// "\"deep__ebc\": found[0], ...": the results of lookup that cross the cut, by name.
std::string BoundaryItems(const models::EmbeddingPlan& plan) {
  const Boundary boundary = BoundaryOf(plan);
  std::string items;
  size_t result = 0;
  const auto next = [&](const std::string& name, bool crosses = true) {
    if (crosses) items += (items.empty() ? "" : ", ") + Quote(name) + ": found[" + std::to_string(result) + "]";
    ++result;
  };
  next(boundary.pooled, plan.pooled_width > 0);
  next(boundary.dense, plan.dense_width > 0);
  for (const auto& sequence : boundary.sequences) {
    if (!sequence.query.empty()) next(sequence.query);
    if (sequence.sequence.empty()) continue;
    next(sequence.sequence);
    next(sequence.length);
    next("", /*crosses=*/false);  // the mask
  }
  return items;
}

/// A network's input as the positional arguments of dense_forward, in the order of lookup's results.
struct FlatInput {
  torch::jit::Stack values;
  std::vector<std::string> names;
};

FlatInput FlattenInput(const models::NetworkInput& input) {
  FlatInput flat{{input.pooled, input.dense}, {"pooled", "dense"}};
  for (size_t g = 0; g < input.sequences.size(); ++g) {
    const nn::Sequence& sequence = input.sequences[g];
    const auto add = [&](const char* name, const at::Tensor& tensor) {
      flat.values.emplace_back(tensor);
      flat.names.push_back(name + std::to_string(g));
    };
    if (sequence.query.defined()) add("query_", sequence.query);
    if (!sequence.sequence.defined()) continue;
    add("sequence_", sequence.sequence);
    add("length_", sequence.length);
    if (sequence.mask.defined()) add("mask_", sequence.mask);
  }
  return flat;
}

models::NetworkInput UnflattenInput(const models::EmbeddingPlan& plan, const torch::jit::Stack& stack) {
  auto next = stack.begin();
  const auto take = [&] { return (next++)->toTensor(); };
  models::NetworkInput input;
  input.pooled = take();
  input.dense = take();
  for (const auto& group : plan.sequence_groups) {
    nn::Sequence& sequence = input.sequences.emplace_back();
    if (!group.query.empty()) sequence.query = take();
    if (group.sequence.empty()) continue;
    sequence.sequence = take();
    sequence.length = take();
    if (!group.jagged) sequence.mask = take();
  }
  return input;
}

/// Traces Network::Forward as a method of `owner`, which holds the dense parameters.
void TraceDense(eval::TrainedModel& model, Module owner, const data::Batch& sample) {
  const auto& plan = model.network().plan();
  const auto inputs = FlattenInput(eval::MakeInput(plan, sample, model.embedding().Forward(sample)));
  model.network().Train(false);
  const auto forward = [&](torch::jit::Stack stack) -> torch::jit::Stack {
    const auto predictions = model.network().Forward(UnflattenInput(plan, stack));
    std::vector<c10::IValue> outputs;
    for (const auto& [name, value] : predictions.values) outputs.emplace_back(value);
    if (predictions.candidates.defined()) outputs.emplace_back(predictions.candidates);
    return {c10::ivalue::Tuple::create(std::move(outputs))};
  };
  const auto no_names = [](const at::Tensor&) { return std::string(); };
  const auto traced = torch::jit::tracer::trace(inputs.values, forward, no_names, /*strict=*/true,
                                                /*force_outplace=*/false, &owner, inputs.names);
  auto* function = owner._ivalue()->compilation_unit()->create_function(
      c10::QualifiedName(*owner.type()->name(), "dense_forward"), traced.first->graph);
  owner.type()->addMethod(function);
}

void CheckNames(const models::EmbeddingPlan& plan) {
  for (const auto& table : plan.tables) {
    if (table.name.find('.') != std::string::npos) {
      throw ConfigError("table '" + table.name + "': TorchScript cannot hold a name with a dot; set embedding_name");
    }
  }
}

}  // namespace

void Define(Module& module, const std::string& source) { module.define(source, std::make_shared<OperatorResolver>()); }

void SaveModule(const Module& module, const std::string& path) {
  checkpoint::SyncedFile file(path);
  checkpoint::ArchiveSink sink([&](const void* data, size_t size) { file.Write(data, static_cast<int64_t>(size)); });
  torch::jit::ExportModule(module, std::ref(sink));
  sink.Finish();
  file.Finish();
}

namespace {

void AddDense(eval::TrainedModel& model, const data::Batch& sample, Module& root) {
  auto& network = model.network();
  for (auto& entry : network.DenseParameters()) {
    entry.tensor.set_requires_grad(false);
    Register(root, entry.name, entry.tensor, /*buffer=*/false);
  }
  for (const auto& entry : network.Buffers()) Register(root, entry.name, entry.tensor, /*buffer=*/true);
  if (!root.hasattr("model"))
    root.register_module("model", Module(c10::QualifiedName("anneal_model"), root._ivalue()->compilation_unit(),
                                         /*shouldMangle=*/true));
  TraceDense(model, root.attr("model").toModule(), sample);
}

void AddTables(eval::TrainedModel& model, const Settings& settings, Module& root) {
  for (const auto& shard : model.embedding().weights()) {
    if (shard.rows != shard.global_rows) throw ConfigError("an export runs in one process");
    const at::Tensor weights = at::from_blob(shard.data, {shard.rows, shard.dim}, at::kFloat);
    // Packed bytes cannot be a parameter: those are floating point.
    const TableType type = TypeOf(shard.kind, settings);
    Register(root, shard.name, PackTable(weights, type, shard.name), type != TableType::kFp32);
  }
}

}  // namespace

ScriptedParts BuildModule(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
                          Contents contents) {
  CheckNames(model.network().plan());
  ScriptedParts parts{Module("AnnealModel"), LookupSource(model.network().plan(), model.features(), settings)};
  if (contents.dense) AddDense(model, sample, parts.root);
  if (contents.tables) {
    AddTables(model, settings, parts.root);
    Define(parts.root, parts.lookup_source);
  }
  parts.root.eval();
  return parts;
}

std::string DenseGraph(const ScriptedParts& parts) {
  return parts.root.attr("model").toModule().get_method("dense_forward").graph()->toString();
}

void WriteTorchScript(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
                      const std::string& folder) {
  ScriptedParts parts = BuildModule(model, sample, settings);
  std::vector<std::string> names = model.network().prediction_names();
  if (model.network().ranks_candidates()) names.push_back(models::kCandidatesOfRows);
  const std::string source = ForwardSource(names, LookupResults(model.network().plan()));
  Define(parts.root, source);
  parts.root.eval();
  SaveModule(parts.root, folder + "/scripted_model.pt");
  checkpoint::WriteFileSynced(
      folder + "/gm.code", parts.lookup_source.substr(1) + source + "\n# dense_forward, traced\n" + DenseGraph(parts));
}

void WriteSparsePart(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
                     const std::string& folder) {
  ScriptedParts parts = BuildModule(model, sample, settings, {.tables = true, .dense = false});
  const std::string source = R"(
def forward(self, data: Dict[str, Tensor], device: str = "cpu") -> Dict[str, Tensor]:
    found = self.lookup(data, device)
    return {)" + BoundaryItems(model.network().plan()) +
                             "}\n";
  Define(parts.root, source);
  parts.root.eval();
  SaveModule(parts.root, folder + "/scripted_sparse_model.pt");
  checkpoint::WriteFileSynced(folder + "/gm_sparse.code", parts.lookup_source.substr(1) + source);
  std::filesystem::create_directories(folder + "/graph");
  checkpoint::WriteFileSynced(folder + "/graph/gm_sparse.graph", parts.root.get_method("forward").graph()->toString());
}

}  // namespace anneal::exporting
