#include "worker/export/row_server_model.h"

#include <ATen/ATen.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/export/assets.h"
#include "worker/export/boundary.h"
#include "worker/export/dist_rows.h"
#include "worker/export/distributed.h"
#include "worker/export/npz_file.h"
#include "worker/export/rtp.h"
#include "worker/models/embedding_group.h"
#include "worker/train/checkpoint/safetensors.h"

namespace anneal::exporting {
namespace {

using nlohmann::json;

json ReadJson(const std::string& path) {
  json value = json::parse(std::ifstream(path), nullptr, false);
  if (!value.is_object()) throw DataError(path + " is no JSON object");
  return value;
}

/// The bags of a feature; ids outside the table count as row 0.
at::Tensor Pool(const Tensors& data, const std::string& feature, const at::Tensor& table, bool mean) {
  const at::Tensor values = data.at(feature + ".values"), lengths = data.at(feature + ".lengths");
  const at::Tensor ids = at::where(values.lt(0).logical_or(values.ge(table.size(0))), at::zeros_like(values), values);
  std::optional<at::Tensor> weights;
  if (data.contains(feature + ".weights")) weights = data.at(feature + ".weights");
  const at::Tensor pooled =
      std::get<0>(at::embedding_bag(table, ids, lengths.cumsum(0) - lengths, false, 0, false, weights));
  return mean ? pooled / lengths.clamp_min(1).unsqueeze(1) : pooled;
}

/// A pooled block: a feature looking up a table.
struct Block {
  std::string feature, table;
  bool mean = false;
};

class Distributed : public ExportedModel {
 public:
  Distributed(const std::string& folder, std::unique_ptr<ExportedModel> dense) : dense_(std::move(dense)) {
    for (const auto& [name, array] : ReadNpz(folder + "/" + kDistributedTables + ".npz")) {
      const bool packed = array.type == NpyType::kUint8;
      if (array.shape.size() != 2 || array.shape[0] == 0 || array.type == NpyType::kInt64) {
        throw DataError(folder + "/" + kDistributedTables + ".npz: array '" + name + "' is no table");
      }
      const at::Tensor stored =
          at::from_blob(const_cast<char*>(array.bytes.data()), array.shape, packed ? at::kByte : at::kFloat);
      tables_[name] = packed ? UnpackDistRows(stored) : stored.clone();
    }
    const json features = ReadJson(folder + "/sparse/sparse_features.json");
    const json meta = ReadJson(folder + "/dense_meta.json");
    for (const auto& [boundary, blocks] : meta.items()) {
      for (const std::string name : blocks) {
        const json& entry = features.at(name);
        const std::string feature = name.substr(0, std::min(name.find('@'), name.rfind("__ebc")));
        const std::string table = entry.at("embedding_name");
        if (!tables_.contains(table))
          throw DataError(folder + ": block " + name + ": there is no table '" + table + "'");
        sides_[boundary].push_back({feature, table, entry.at("pooling") == "MEAN"});
      }
    }
  }

  Tensors Run(const Tensors& data) const override {
    Tensors inputs = data.copy();
    for (const auto& [name, blocks] : sides_) {
      std::vector<at::Tensor> pooled;
      for (const Block& block : blocks)
        pooled.push_back(Pool(data, block.feature, tables_.at(block.table), block.mean));
      inputs.insert_or_assign(name, at::cat(pooled, 1));
    }
    return dense_->Run(inputs);
  }

 private:
  std::unique_ptr<ExportedModel> dense_;
  std::map<std::string, at::Tensor> tables_;
  std::map<std::string, std::vector<Block>> sides_;  ///< by boundary name
};

class Rtp : public ExportedModel {
 public:
  Rtp(const std::string& folder, std::unique_ptr<ExportedModel> dense)
      : dense_(std::move(dense)),
        config_(LoadExportConfig(folder).config),
        features_(features::FeatureSet::FromConfig(config_)),
        plan_(models::PlanEmbeddings(config_.model_config(), features_, config_)),
        boundary_(BoundaryOf(plan_)),
        file_(folder + "/" + kRtpShard + ".safetensors") {
    for (const auto& table : plan_.tables) {
      const auto found = file_.tensors().find(table.state_name() + kRtpPart);
      if (found == file_.tensors().end() || found->second.dtype != checkpoint::DType::kF32 ||
          found->second.shape != std::vector<int64_t>{table.rows, table.dim}) {
        throw DataError(folder + "/" + kRtpShard + ".safetensors: table '" + table.name +
                        "' is not there, or has another type or shape than pipeline.config says");
      }
    }
  }

  Tensors Run(const Tensors& data) const override {
    std::vector<at::Tensor> pooled, dense;
    for (const auto& lookup : plan_.lookups) {
      const auto& table = plan_.tables[lookup.table];
      const auto& view = file_.tensors().at(table.state_name() + kRtpPart);
      pooled.push_back(Pool(data, features_.sparse()[lookup.feature]->name,
                            at::from_blob(const_cast<void*>(view.data), view.shape, at::kFloat),
                            table.pooling == features::Pooling::kMean));
    }
    for (const auto* feature : features_.dense()) dense.push_back(data.at(feature->name + ".values"));
    Tensors inputs;
    inputs.insert(boundary_.pooled, at::cat(pooled, 1));
    inputs.insert(boundary_.dense, dense.empty() ? at::zeros({pooled.front().size(0), 0}) : at::cat(dense, 1));
    return dense_->Run(inputs);
  }

 private:
  const std::unique_ptr<ExportedModel> dense_;
  const tzrec::protos::EasyRecConfig config_;
  const features::FeatureSet features_;
  const models::EmbeddingPlan plan_;
  const Boundary boundary_;
  const checkpoint::SafetensorsFile file_;
};

}  // namespace

std::unique_ptr<ExportedModel> OpenRtp(const std::string& folder, std::unique_ptr<ExportedModel> dense) {
  return std::make_unique<Rtp>(folder, std::move(dense));
}

std::unique_ptr<ExportedModel> OpenDistributed(const std::string& folder, std::unique_ptr<ExportedModel> dense) {
  try {
    return std::make_unique<Distributed>(folder, std::move(dense));
  } catch (const json::exception& error) {
    throw DataError(folder + ": the description of its tables is not complete: " + error.what());
  }
}

}  // namespace anneal::exporting
