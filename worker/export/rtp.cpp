#include "worker/export/rtp.h"

#include <torch/csrc/jit/api/module.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <sstream>

#include "worker/config/error.h"
#include "worker/config/feature_kinds.h"
#include "worker/export/boundary.h"
#include "worker/export/lookup_source.h"
#include "worker/export/torchscript.h"
#include "worker/features/fg_json.h"
#include "worker/train/checkpoint/safetensors.h"
#include "worker/train/progress/log.h"

namespace anneal::exporting {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using tzrec::protos::FeatureConfig;

void Rename(ordered_json& entry, const char* from, const char* to) {
  if (!entry.contains(from)) return;
  entry[to] = entry[from];
  entry.erase(from);
}

/// How RTP makes rows of values: its own words for hashing, modulo and boundaries.
void SayGeneration(ordered_json& entry) {
  if (entry.contains("boundaries")) {
    std::string text;
    for (const auto& boundary : entry["boundaries"]) text += (text.empty() ? "" : ",") + boundary.dump();
    entry["boundaries"] = text;
    entry["gen_key_type"] = "boundary";
  } else if (entry.contains("hash_bucket_size")) {
    entry["gen_key_type"] = "hash";
  } else if (entry.contains("num_buckets")) {
    Rename(entry, "num_buckets", "hash_bucket_size");
    entry["gen_key_type"] = "mod";
  } else {
    entry["gen_key_type"] = "idle";
  }
}

void WriteTables(eval::TrainedModel& model, const std::string& folder) {
  std::vector<checkpoint::TensorView> views;
  ordered_json description;
  for (const auto& shard : model.embedding().weights()) {
    const std::string name = shard.name + kRtpPart;
    views.push_back({name, checkpoint::DType::kF32, {shard.rows, shard.dim}, shard.data});
    description[name] = {{"name", name},
                         {"dense", false},
                         {"dimension", shard.dim},
                         {"dtype", "float32"},
                         {"memory", shard.rows * shard.dim * static_cast<int64_t>(sizeof(float))},
                         {"shape", {shard.rows, shard.dim}},
                         {"is_hashmap", false}};
  }
  checkpoint::WriteSafetensors(folder + "/" + kRtpShard + ".safetensors", views);
  checkpoint::WriteFileSynced(folder + "/" + kRtpShard + ".json", description.dump(4));
}

/// forward: boundary tensors in, outputs in alphabetical order.
std::string DenseSource(const models::EmbeddingPlan& plan, const std::vector<std::string>& outputs) {
  const Boundary boundary = BoundaryOf(plan);
  std::vector<size_t> order(outputs.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return outputs[a] < outputs[b]; });
  std::ostringstream s;
  s << "\ndef forward(self, data: Dict[str, Tensor], device: str = \"cpu\") -> Dict[str, Tensor]:\n"
    << "    d = torch.device(device)\n    pooled = data[" << Quote(boundary.pooled) << "].to(d, 6)\n    dense = "
    << (plan.dense_width > 0 ? "data[" + Quote(boundary.dense) + "].to(d, 6)"
                             : "torch.zeros([pooled.size(0), 0], device=d)")
    << "\n    outputs = self.model.dense_forward(pooled, dense)\n"
    << ReturnOutputs(outputs, order);
  return s.str();
}

}  // namespace

void CheckRtp(const tzrec::protos::EasyRecConfig& config) {
  for (const auto& one : config.feature_configs()) {
    const auto kind = one.feature_case();
    const bool known = kind == FeatureConfig::kIdFeature || kind == FeatureConfig::kRawFeature ||
                       kind == FeatureConfig::kComboFeature || kind == FeatureConfig::kMatchFeature ||
                       kind == FeatureConfig::kLookupFeature || kind == FeatureConfig::kOverlapFeature;
    if (!known) {
      const auto* field = FeatureConfig::descriptor()->FindFieldByNumber(kind);
      throw ConfigError("RTP serves no " + (field ? field->name() : std::string("feature without a kind")) +
                        " (id, raw, combo, match, lookup and overlap features only)");
    }
  }
  for (const config::FeatureEntry& entry : config::FeatureEntries(config)) {
    config::VisitFeature(*entry.feature, [](const auto& feature) {
      if constexpr (requires { feature.vocab_file(); }) {
        if (feature.vocab_list_size() > 0 || feature.vocab_dict_size() > 0 || feature.has_vocab_file()) {
          throw ConfigError(
              "feature '" + feature.feature_name() +
              "': RTP knows no vocab_list, vocab_dict or vocab_file; use hash_bucket_size or num_buckets");
        }
      }
    });
  }
  const char* farm = std::getenv("USE_FARM_HASH_TO_BUCKETIZE");
  if (!farm || std::string(farm) != "true") {
    LogWarning("RTP hashes with FarmHash: a model for it should be trained with USE_FARM_HASH_TO_BUCKETIZE=true");
  }
}

ordered_json RtpFgJson(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features) {
  ordered_json fg = features::FgJson(config);
  for (ordered_json& entry : fg["features"]) {
    Rename(entry, "value_dim", "value_dimension");
    Rename(entry, "need_discrete", "needDiscrete");
    SayGeneration(entry);
    const auto* feature = features.Find(entry["feature_name"]);
    if (feature && feature->sparse) {
      entry["shared_name"] = feature->table;
      entry["embedding_dimension"] = feature->embedding_dim;
      entry["gen_val_type"] = "lookup";
    } else {
      entry["gen_val_type"] = "idle";
    }
  }
  return fg;
}

void WriteRtp(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
              const std::string& folder) {
  const auto& plan = model.network().plan();
  WriteTables(model, folder);
  ScriptedParts parts = BuildModule(model, sample, settings, {.tables = false, .dense = true});
  const std::string source = DenseSource(plan, model.network().prediction_names());
  Define(parts.root, source);
  parts.root.eval();
  fs::create_directories(folder + "/fx_user_model");
  fs::create_directories(folder + "/graph");
  SaveModule(parts.root, folder + "/fx_user_model/scripted_model.pt");
  const std::string dense = DenseGraph(parts);
  checkpoint::WriteFileSynced(folder + "/graph/gm_dense.graph", dense);
  checkpoint::WriteFileSynced(folder + "/graph/gm_sparse.graph", parts.lookup_source.substr(1));
  checkpoint::WriteFileSynced(folder + "/fg.json", RtpFgJson(model.config(), model.features()).dump(4));
}

}  // namespace anneal::exporting
