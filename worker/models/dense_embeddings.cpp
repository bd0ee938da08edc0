#include "worker/models/dense_embeddings.h"

#include <ATen/ATen.h>

namespace anneal::models {
namespace {

std::unique_ptr<nn::DenseEmbedding> MakeLayer(const EmbeddedFeatures& same) {
  const auto features = static_cast<int64_t>(same.features.size());
  if (same.setting.kind == features::DenseEmbedding::Kind::kAutoDis) {
    return std::make_unique<nn::AutoDis>(features, same.setting.channels, same.dim, same.setting.keep_prob,
                                         same.setting.temperature);
  }
  if (same.value_dim > 1) return std::make_unique<nn::NumbersProjection>(same.value_dim, same.dim);
  return std::make_unique<nn::NumberProjection>(features, same.dim);
}

}  // namespace

DenseEmbeddings::DenseEmbeddings(const EmbeddingPlan& plan) : plan_(plan) {
  for (const EmbeddedFeatures& same : plan.embedded) {
    layers_.push_back(MakeLayer(same));
    RegisterModule(same.state_name, *layers_.back());
  }
}

at::Tensor DenseEmbeddings::Forward(const at::Tensor& dense) const {
  std::vector<at::Tensor> parts;
  for (size_t l = 0; l < layers_.size(); ++l) {
    const EmbeddedFeatures& same = plan_.embedded[l];
    std::vector<at::Tensor> columns;
    for (const auto& [name, column] : same.features) columns.push_back(dense.narrow(1, column, same.value_dim));
    parts.push_back(layers_[l]->Forward(columns.size() == 1 ? columns.front() : at::cat(columns, 1)));
  }
  return parts.empty() ? at::Tensor() : parts.size() == 1 ? parts.front() : at::cat(parts, 1);
}

std::vector<nn::NamedTensor> DenseEmbeddings::StoredParameters() const {
  std::vector<nn::NamedTensor> stored;
  for (size_t l = 0; l < layers_.size(); ++l) {
    for (const auto& [name, parameter] : layers_[l]->NamedParameters(plan_.embedded[l].state_name)) {
      int64_t i = 0;
      for (const auto& [feature, column] : plan_.embedded[l].features)
        stored.push_back({name + "_" + feature + ".weight", layers_[l]->PartOf(parameter.detach(), i++)});
    }
  }
  return stored;
}

}  // namespace anneal::models
