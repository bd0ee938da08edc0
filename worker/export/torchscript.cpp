#include "worker/export/torchscript.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <fstream>
#include <sstream>

#include "worker/config/error.h"
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
    if (!at.hasattr(parts[i])) {
      // One type per module: their attributes differ.
      Module child(c10::QualifiedName(path), root._ivalue()->compilation_unit(), /*shouldMangle=*/true);
      at.register_module(parts[i], child);
    }
    at = at.attr(parts[i]).toModule();
  }
  at.register_parameter(parts.back(), tensor, buffer);
}

std::string Quote(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

/// TorchScript for a tensor by its dotted name. getattr, because names may be numbers.
std::string Attribute(const std::string& name) {
  std::string text = "self";
  for (const std::string& part : SplitName(name)) text = "getattr(" + text + ", " + Quote(part) + ")";
  return text;
}

// Scalar types are written as their numbers (4: int64, 6: float32): Module::define knows no torch.int64.
/// The source of forward: dictionary in, lookups, dense columns, dense model, dictionary out.
std::string ForwardSource(eval::TrainedModel& model) {
  const auto& plan = model.network().plan();
  const auto& features = model.features();
  std::ostringstream s;
  s << R"(
def bag(self, table: Tensor, values: Tensor, lengths: Tensor, weights: Optional[Tensor], mean: bool) -> Tensor:
    rows = table.size(0)
    ids = torch.where((values < 0) | (values >= rows), torch.zeros_like(values), values)
    offsets = torch.cumsum(lengths, 0) - lengths
    pooled = torch.embedding_bag(table, ids, offsets, False, 0, False, weights, False)[0]
    if mean:
        pooled = pooled / torch.clamp(lengths, min=1).to(pooled.dtype).unsqueeze(1)
    return pooled

def forward(self, data: Dict[str, Tensor], device: str = "cpu") -> Dict[str, Tensor]:
    d = torch.device(device)
)";
  for (const auto* feature : features.sparse()) {
    const std::string i = std::to_string(feature->index), key = feature->name;
    s << "    values_" << i << " = data[" << Quote(key + ".values") << "].to(d, 4)\n"
      << "    lengths_" << i << " = data[" << Quote(key + ".lengths") << "].to(d, 4)\n";
    if (features.weighted()) {
      s << "    weights_" << i << " = data[" << Quote(key + ".weights") << "].to(d, 6)\n";
    }
  }
  s << "    pooled = torch.cat([\n";
  for (const auto& lookup : plan.lookups) {
    const auto& table = plan.tables[lookup.table];
    const std::string i = std::to_string(lookup.feature);
    s << "        self.bag(" << Attribute(table.state_name()) << ", values_" << i << ", lengths_" << i << ", "
      << (features.weighted() ? "weights_" + i : "None") << ", "
      << (table.pooling == features::Pooling::kMean ? "True" : "False") << "),\n";
  }
  s << "    ], 1)\n";
  if (features.dense().empty()) {
    s << "    dense = torch.zeros([pooled.size(0), 0])\n";
  } else {
    s << "    dense = torch.cat([\n";
    for (const auto* feature : features.dense()) {
      s << "        data[" << Quote(feature->name + ".values") << "].to(d, 6).reshape([-1, "
        << feature->value_dim << "]),\n";
    }
    s << "    ], 1)\n";
  }
  s << "    outputs = self.model.dense_forward(pooled, dense)\n    return {\n";
  const auto names = model.network().prediction_names();
  for (size_t i = 0; i < names.size(); ++i) s << "        " << Quote(names[i]) << ": outputs[" << i << "]" << (i + 1 < names.size() ? "," : "") << "\n";
  s << "    }\n";
  return s.str();
}

/// Traces Network::Forward as a method of `owner`, which holds the dense parameters.
void TraceDense(eval::TrainedModel& model, Module owner, const data::Batch& sample) {
  const at::Tensor pooled = model.embedding().Forward(sample);
  const at::Tensor dense = eval::DenseTensor(sample, model.network().plan().dense_width);
  model.network().model().Train(false);
  const auto forward = [&model](torch::jit::Stack inputs) -> torch::jit::Stack {
    const auto predictions = model.network().Forward(inputs.at(0).toTensor(), inputs.at(1).toTensor());
    std::vector<c10::IValue> outputs;
    for (const auto& [name, value] : predictions.values) outputs.emplace_back(value);
    return {c10::ivalue::Tuple::create(std::move(outputs))};
  };
  const auto no_names = [](const at::Tensor&) { return std::string(); };
  const auto traced = torch::jit::tracer::trace({pooled, dense}, forward, no_names, /*strict=*/true,
                                                /*force_outplace=*/false, &owner, {"pooled", "dense"});
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

void WriteTorchScript(eval::TrainedModel& model, const data::Batch& sample, const std::string& folder) {
  auto& network = model.network();
  CheckNames(network.plan());
  Module root("AnnealModel");
  for (auto& entry : network.DenseParameters()) {
    entry.tensor.set_requires_grad(false);
    Register(root, entry.name, entry.tensor, /*buffer=*/false);
  }
  for (const auto& entry : network.Buffers()) Register(root, entry.name, entry.tensor, /*buffer=*/true);
  for (const auto& shard : model.embedding().weights()) {
    if (shard.rows != shard.global_rows) throw ConfigError("an export runs in one process");
    Register(root, shard.name, at::from_blob(shard.data, {shard.rows, shard.dim}, at::kFloat), /*buffer=*/false);
  }
  TraceDense(model, root.attr("model").toModule(), sample);
  const std::string source = ForwardSource(model);
  root.define(source);
  root.eval();
  const std::string path = folder + "/scripted_model.pt";
  try {
    root.save(path);
  } catch (const std::exception& error) {
    throw TemporaryError("cannot write " + path + ": " + error.what());
  }
  const auto method = root.attr("model").toModule().get_method("dense_forward");
  checkpoint::WriteFileSynced(folder + "/gm.code", source.substr(1) + "\n# dense_forward, traced\n" + method.graph()->toString());
}

}  // namespace anneal::exporting
