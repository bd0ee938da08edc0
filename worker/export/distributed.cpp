#include "worker/export/distributed.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "worker/export/boundary.h"
#include "worker/export/dist_rows.h"
#include "worker/export/lookup_source.h"
#include "worker/export/npz_file.h"
#include "worker/export/torchscript.h"
#include "worker/train/checkpoint/safetensors.h"

namespace anneal::exporting {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

/// One side's pooled tensor at the boundary: which lookups it holds, in order.
struct Side {
  std::string name;
  std::vector<const models::Lookup*> lookups;
};

std::vector<Side> SidesOf(const eval::TrainedModel& model, const models::EmbeddingPlan& plan) {
  const std::string name = BoundaryOf(plan).pooled;
  std::vector<Side> sides = {{name, {}}, {name + "_user", {}}};
  for (const auto& lookup : plan.lookups) {
    const bool user = model.features().sparse()[lookup.feature]->user_side();
    sides[user ? 1 : 0].lookups.push_back(&lookup);
  }
  std::erase_if(sides, [](const Side& side) { return side.lookups.empty(); });
  return sides;
}

std::string BlockName(const eval::TrainedModel& model, const models::EmbeddingPlan& plan,
                      const models::Lookup& lookup) {
  int tables = 0;
  for (const auto& other : plan.lookups) tables += other.feature == lookup.feature;
  const std::string& feature = model.features().sparse()[lookup.feature]->name;
  return feature + (tables > 1 ? "@" + plan.tables[lookup.table].name : "") + "__ebc";
}

/// How the row servers call a table: its state name without ".weight".
std::string TableKey(const std::string& state_name) {
  return state_name.substr(0, state_name.size() - std::string(".weight").size());
}

/// forward: boundary tensors and raw dense features in; the user's side is tiled here.
std::string DenseSource(const eval::TrainedModel& model, const models::EmbeddingPlan& plan,
                        const std::vector<Side>& sides, const std::vector<std::string>& outputs) {
  std::ostringstream s;
  s << "\ndef forward(self, data: Dict[str, Tensor], device: str = \"cpu\") -> Dict[str, Tensor]:\n"
    << "    d = torch.device(device)\n    tiles = int(data[\"batch_size\"])\n";
  std::map<const models::Lookup*, std::string> block;
  for (size_t i = 0; i < sides.size(); ++i) {
    s << "    side_" << i << " = data[" << Quote(sides[i].name) << "].to(d, 6)"
      << (sides[i].name.ends_with("_user") ? ".repeat([tiles, 1])" : "") << "\n";
    int64_t column = 0;
    for (const auto* lookup : sides[i].lookups) {
      block[lookup] = "side_" + std::to_string(i) + ".narrow(1, " + std::to_string(column) + ", " +
                      std::to_string(lookup->dim) + ")";
      column += lookup->dim;
    }
  }
  s << "    pooled = torch.cat([\n";
  for (const auto& lookup : plan.lookups) s << "        " << block.at(&lookup) << ",\n";
  s << "    ], 1)\n    dense = torch.zeros([pooled.size(0), 0], device=d)\n";
  if (!model.features().dense().empty()) {
    s << "    dense = torch.cat([\n";
    for (const auto* feature : model.features().dense()) {
      s << "        data[" << Quote(feature->name + ".values") << "].to(d, 6).reshape([-1, " << feature->value_dim
        << "])" << (feature->user_side() ? ".repeat([tiles, 1])" : "") << ",\n";
    }
    s << "    ], 1)\n";
  }
  std::vector<size_t> order(outputs.size());
  std::iota(order.begin(), order.end(), 0);
  s << "    outputs = self.model.dense_forward(pooled, dense)\n" << ReturnOutputs(outputs, order);
  return s.str();
}

/// What the row servers load: arrays and their description.
void WriteTables(eval::TrainedModel& model, const models::EmbeddingPlan& plan, bool quantised, const fs::path& folder) {
  const std::string tables = (folder / kDistributedTables).string();
  NpzWriter arrays(tables + ".npz");
  ordered_json description, sparse_features;
  std::map<std::string, ordered_json> users;
  for (const auto& lookup : plan.lookups) {
    const auto& table = plan.tables[lookup.table];
    const std::string block = BlockName(model, plan, lookup);
    users[table.state_name()].push_back(block);
    sparse_features[block] = {{"embedding_name", TableKey(table.state_name())},
                              {"pooling", table.pooling == features::Pooling::kMean ? "MEAN" : "SUM"}};
  }
  for (const auto& shard : model.embedding().weights()) {
    const std::string key = TableKey(shard.name);
    const at::Tensor weights = at::from_blob(shard.data, {shard.rows, shard.dim}, at::kFloat);
    ordered_json& entry = description[key];
    entry = {{"feat_name_impl", users[shard.name]}, {"dense", false}, {"is_dynamic", false}, {"dimension", shard.dim}};
    if (quantised) {
      const at::Tensor packed = PackDistRows(weights, shard.name);
      arrays.Add(key, NpyType::kUint8, packed.sizes().vec(), packed.const_data_ptr());
      entry["dtype"] = "QUint8RowwiseF16";
      entry["memory"] = packed.numel();
      entry["shape"] = {shard.rows, shard.dim};
      entry["storage_dtype"] = "uint8";
      entry["storage_shape"] = packed.sizes().vec();
      entry["row_bytes"] = packed.size(1);
      entry["quant"] = {{"enabled", true},
                        {"format", "QUint8RowwiseF16"},
                        {"scale_offset_dtype", "float16"},
                        {"output_dtype", "float16"}};
    } else {
      arrays.Add(key, NpyType::kFloat32, {shard.rows, shard.dim}, shard.data);
      entry["dtype"] = "float32";
      entry["memory"] = shard.rows * shard.dim * static_cast<int64_t>(sizeof(float));
      entry["shape"] = {shard.rows, shard.dim};
    }
  }
  arrays.Finish();
  checkpoint::WriteFileSynced(tables + ".json", description.dump(4));
  checkpoint::WriteFileSynced(folder / "sparse/sparse_embedding.json", description.dump(4));
  checkpoint::WriteFileSynced(folder / "sparse/sparse_features.json", sparse_features.dump(4));
}

}  // namespace

void WriteDistributed(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
                      const std::string& folder) {
  const auto& plan = model.network().plan();
  const std::vector<Side> sides = SidesOf(model, plan);
  ScriptedParts parts = BuildModule(model, sample, settings, {.tables = false, .dense = true});
  const std::string source = DenseSource(model, plan, sides, model.network().prediction_names());
  Define(parts.root, source);
  parts.root.eval();
  SaveModule(parts.root, folder + "/scripted_model.pt");

  ordered_json meta;
  for (const Side& side : sides) {
    for (const auto* lookup : side.lookups) meta[side.name].push_back(BlockName(model, plan, *lookup));
  }
  checkpoint::WriteFileSynced(folder + "/dense_meta.json", meta.dump(4));
  const std::string dense = DenseGraph(parts);
  checkpoint::WriteFileSynced(folder + "/gm_dense.code", source.substr(1) + "\n# dense_forward, traced\n" + dense);
  fs::create_directories(folder + "/graph");
  checkpoint::WriteFileSynced(folder + "/graph/gm_dense.graph", dense);
  checkpoint::WriteFileSynced(folder + "/graph/gm_sparse.graph", parts.lookup_source.substr(1));
  checkpoint::WriteFileSynced(folder + "/graph/gm_full.graph", parts.lookup_source.substr(1) + "\n" + dense);
  fs::create_directories(folder + "/sparse");
  WriteTables(model, plan, settings.dist_quant, folder);
}

}  // namespace anneal::exporting
