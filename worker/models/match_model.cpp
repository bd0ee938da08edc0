#include "worker/models/match_model.h"

#include <ATen/ATen.h>

#include "worker/nn/unit_length.h"

namespace anneal::models {
namespace {

int64_t WidthOf(const ModelInput& input, const std::vector<std::string>& groups) {
  int64_t width = 0;
  for (const std::string& group : groups) width += input.RequireGroup(group).width;
  return width;
}

}  // namespace

VectorTower::VectorTower(const ModelInput& input, std::vector<std::string> groups, const tzrec::protos::MLP& mlp,
                         int64_t output_dim, tzrec::protos::Similarity similarity)
    : groups_(std::move(groups)),
      cosine_(similarity == tzrec::protos::COSINE),
      mlp_(WidthOf(input, groups_), mlp),
      output_dim_(output_dim > 0 ? output_dim : mlp_.output_dim()) {
  RegisterModule("mlp", mlp_);
  if (output_dim > 0) {
    output_ = std::make_unique<nn::Linear>(mlp_.output_dim(), output_dim);
    RegisterModule("output", *output_);
  }
}

at::Tensor VectorTower::Forward(const Groups& groups) {
  std::vector<at::Tensor> parts;
  for (const std::string& group : groups_) parts.push_back(groups.at(group));
  at::Tensor vector = mlp_.Forward(parts.size() == 1 ? parts.front() : at::cat(parts, 1));
  if (output_) vector = output_->Forward(vector);
  return cosine_ ? nn::UnitLength(vector) : vector;
}

MatchModel::MatchModel(const ModelInput& input, double temperature, bool in_batch_negative)
    : temperature_(temperature), in_batch_(in_batch_negative) {
  Head head;
  if (input.tower.empty()) {
    head = input.SingleHead();
    head.output = "similarity";
    head.truth = in_batch_ ? Head::Truth::kOwnRow : Head::Truth::kFirst;
    // parity/models.md 7.5: ignored.
    for (auto& loss : head.losses) loss.mutable_softmax_cross_entropy()->clear_label_smoothing();
  } else {
    head.output = input.tower + "_emb";
  }
  heads_ = {head};
}

std::unique_ptr<VectorTower> MatchModel::MakeTower(const ModelInput& input, const std::string& name,
                                                   std::vector<std::string> groups, const tzrec::protos::MLP& mlp,
                                                   int64_t output_dim, tzrec::protos::Similarity similarity) {
  if (!input.tower.empty() && input.tower != name) return nullptr;
  auto tower = std::make_unique<VectorTower>(input, std::move(groups), mlp, output_dim, similarity);
  RegisterModule(name, *tower);
  return tower;
}

at::Tensor MatchModel::Similarity(const at::Tensor& users, const at::Tensor& items, const SampledItems& sampled) const {
  if (in_batch_) return at::matmul(users, items.t()) / temperature_;
  const int64_t rows = users.size(0), hard = sampled.hard.defined() ? sampled.hard.size(0) : 0;
  const auto item = [&](int64_t first, int64_t count) { return items.narrow(0, first, count); };
  std::vector<at::Tensor> columns{(users * item(0, rows)).sum(1, /*keepdim=*/true),
                                  at::matmul(users, item(rows, sampled.count - hard).t())};
  if (hard > 0) {
    const at::Tensor row = sampled.hard.select(1, 0).to(users.device());
    const at::Tensor number = sampled.hard.select(1, 1).to(users.device());
    // -1e32 is no number of 16 bits.
    const at::Tensor values =
        (users.index_select(0, row) * item(rows + sampled.count - hard, hard)).sum(1).to(at::kFloat);
    const int64_t most = sampled.hard.select(1, 1).max().item<int64_t>() + 1;
    columns.push_back(at::full({rows, most}, -1e32, values.options()).index_put({row, number}, values));
  }
  return at::cat(columns, 1) / temperature_;
}

}  // namespace anneal::models
