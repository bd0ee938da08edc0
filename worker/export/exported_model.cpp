#include "worker/export/scripted_model.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/export/feature_dictionary.h"

namespace anneal::exporting {

struct ScriptedModel::Impl {
  torch::jit::Module module;
  bool tiled = false;  ///< INPUT_TILE: takes `batch_size`
};

ScriptedModel::ScriptedModel(const std::string& folder) : impl_(std::make_unique<Impl>()) {
  const std::string path = folder + "/scripted_model.pt";
  if (!std::filesystem::exists(path)) throw ConfigError("there is no exported model at " + path);
  try {
    impl_->module = torch::jit::load(path);
    impl_->module.eval();
    const auto acc = nlohmann::json::parse(std::ifstream(folder + "/model_acc.json"), nullptr, false);
    const std::string tile = acc.is_object() ? acc.value("INPUT_TILE", "") : "";
    impl_->tiled = tile.starts_with("2") || tile.starts_with("3");
  } catch (const std::exception& error) {
    throw ConfigError(path + " is not a TorchScript model: " + std::string(error.what()).substr(0, 300));
  }
}

ScriptedModel::~ScriptedModel() = default;

models::Predictions ScriptedModel::Predict(const data::Batch& batch, const features::FeatureSet& features) const {
  const c10::AutoGradMode no_grad(false);
  auto inputs = FeatureDictionary(batch, features);
  // The rows of a file are whole: each user is tiled once (parity/data.md 7).
  if (impl_->tiled) inputs.insert("batch_size", at::scalar_tensor(1, at::kLong));
  auto outputs = impl_->module.forward({inputs}).toGenericDict();
  models::Predictions predictions;
  for (const auto& entry : outputs)
    predictions.values.emplace_back(entry.key().toStringRef(), entry.value().toTensor());
  std::sort(predictions.values.begin(), predictions.values.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  return predictions;
}

}  // namespace anneal::exporting
