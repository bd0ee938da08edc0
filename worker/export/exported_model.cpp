#include "worker/export/exported_model.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "worker/config/error.h"
#include "worker/export/aot_package.h"
#include "worker/export/feature_dictionary.h"
#include "worker/export/row_server_model.h"

namespace anneal::exporting {
namespace {

namespace fs = std::filesystem;

class Scripted : public ExportedModel {
 public:
  explicit Scripted(const std::string& path) {
    try {
      module_ = torch::jit::load(path);
      module_.eval();
    } catch (const std::exception& error) {
      throw ConfigError(path + " is not a TorchScript model: " + std::string(error.what()).substr(0, 300));
    }
  }

  Tensors Run(const Tensors& data) const override {
    const auto outputs = module_.get_method("forward")({data}).toGenericDict();
    Tensors tensors;
    for (const auto& entry : outputs) tensors.insert(entry.key().toStringRef(), entry.value().toTensor());
    return tensors;
  }

 private:
  torch::jit::Module module_;
};

/// A compiled model, with or without the lookups in front of it.
class Compiled : public ExportedModel {
 public:
  Compiled(const std::string& package, int runners, std::unique_ptr<ExportedModel> sparse)
      : sparse_(std::move(sparse)), package_(package, runners) {}

  Tensors Run(const Tensors& data) const override { return package_.Run(sparse_ ? sparse_->Run(data) : data); }

 private:
  std::unique_ptr<ExportedModel> sparse_;
  AotPackage package_;
};

bool IsTiled(const std::string& folder) {
  const std::string tile = AccelerationOf(folder, "INPUT_TILE");
  return tile.starts_with("2") || tile.starts_with("3");
}

std::unique_ptr<ExportedModel> Open(const std::string& folder, int runners) {
  const std::string scripted = folder + "/scripted_model.pt", package = folder + "/aoti/aoti_model.pt2";
  if (fs::exists(scripted)) {
    auto model = std::make_unique<Scripted>(scripted);
    if (fs::exists(folder + "/dense_meta.json")) return OpenDistributed(folder, std::move(model));
    return model;
  }
  const std::string rtp = folder + "/fx_user_model/scripted_model.pt";
  if (fs::exists(rtp)) return OpenRtp(folder, std::make_unique<Scripted>(rtp));
  if (fs::exists(folder + "/dense.onnx")) {
    throw ConfigError(folder + " holds an ONNX model: run its dense.onnx with ONNX Runtime or TensorRT");
  }
  if (!fs::exists(package)) throw ConfigError("there is no exported model at " + scripted);
  const bool split = fs::exists(folder + "/scripted_sparse_model.pt");
  return std::make_unique<Compiled>(package, runners, split ? OpenSparsePart(folder) : nullptr);
}

}  // namespace

Tensors ExportedModel::Inputs(const data::Batch& batch, const features::FeatureSet& features) const {
  Tensors inputs = FeatureDictionary(batch, features);
  // The rows of a file are whole: each user is tiled once (parity/data.md 7).
  if (tiled) inputs.insert("batch_size", at::scalar_tensor(1, at::kLong));
  return inputs;
}

models::Predictions ExportedModel::Predict(const data::Batch& batch, const features::FeatureSet& features) const {
  const c10::AutoGradMode no_grad(false);
  models::Predictions predictions;
  for (const auto& entry : Run(Inputs(batch, features))) {
    if (entry.key() == models::kCandidatesOfRows) {
      predictions.candidates = entry.value();
    } else {
      predictions.values.emplace_back(entry.key(), entry.value());
    }
  }
  std::sort(predictions.values.begin(), predictions.values.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  return predictions;
}

std::unique_ptr<ExportedModel> OpenExport(const std::string& folder, int runners) {
  auto model = Open(folder, runners);
  model->tiled = IsTiled(folder);
  return model;
}

std::unique_ptr<ExportedModel> OpenSparsePart(const std::string& folder) {
  auto model = std::make_unique<Scripted>(folder + "/scripted_sparse_model.pt");
  model->tiled = IsTiled(folder);
  return model;
}

std::string AccelerationOf(const std::string& folder, const std::string& key) {
  const auto acc = nlohmann::json::parse(std::ifstream(folder + "/model_acc.json"), nullptr, false);
  return acc.is_object() && acc.contains(key) && acc[key].is_string() ? acc[key].get<std::string>() : "";
}

}  // namespace anneal::exporting
