#include "worker/models/network.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "worker/config/error.h"
#include "worker/losses/loss.h"
#include "worker/losses/session_ranking.h"
#include "worker/models/group_assembly.h"

namespace anneal::models {
namespace {

/// Row weights of a head, normalised to mean 1 over the batch and multiplied by the head's weight; undefined when the
/// head is not weighted.
at::Tensor RowWeights(const Head& head, const data::Batch& batch, const Network& network,
                      const std::vector<std::string>& sample_weight_fields) {
  if (!head.weighted) return {};
  const int64_t rows = CountLabels(batch);
  if (head.sample_weight.empty() && head.space_indicator.empty()) return at::full({rows}, head.weight);
  at::Tensor weights = at::ones({rows});
  if (!head.sample_weight.empty()) {
    const auto found = std::find(sample_weight_fields.begin(), sample_weight_fields.end(), head.sample_weight);
    const auto& column = batch.sample_weights.at(found - sample_weight_fields.begin());
    weights = at::from_blob(const_cast<float*>(column.data()), {rows}, at::kFloat);
  }
  if (!head.space_indicator.empty()) {
    const at::Tensor label = LabelTensor(batch.labels.at(network.LabelIndex(head.space_indicator)));
    weights = weights * at::where(label > 0, at::full_like(weights, head.in_space_weight),
                                  at::full_like(weights, head.out_space_weight));
  }
  const at::Tensor mean = weights.mean();
  weights = at::where(mean == 0, at::zeros_like(weights), weights / mean);
  return weights * head.weight;
}

}  // namespace

at::Tensor LabelTensor(const data::Label& label) {
  if (!label.floats.empty()) {
    return at::from_blob(const_cast<float*>(label.floats.data()), {static_cast<int64_t>(label.floats.size())},
                         at::kFloat);
  }
  return at::from_blob(const_cast<int64_t*>(label.ints.data()), {static_cast<int64_t>(label.ints.size())}, at::kLong)
      .to(at::kFloat);
}

int64_t CountLabels(const data::Batch& batch) {
  const bool lists = !batch.labels.empty() && !batch.labels.front().offsets.empty();
  return lists ? batch.labels.front().offsets.back() : batch.rows - batch.negatives;
}

at::Tensor TruthOf(const Head& head, const data::Label& column) {
  at::Tensor label = LabelTensor(column);
  if (head.label_bits != 0) {
    // From the integers themselves: float32 has not all of their bits.
    const at::Tensor bits = column.ints.empty()
                                ? label.to(at::kLong)
                                : at::from_blob(const_cast<int64_t*>(column.ints.data()), label.sizes(), at::kLong);
    label = (bits.bitwise_and(static_cast<int64_t>(head.label_bits)) != 0).to(at::kFloat);
  }
  switch (head.truth) {
    case Head::Truth::kOwnRow:
      return at::arange(label.size(0), at::kFloat);
    case Head::Truth::kFirst:
      return at::zeros_like(label);
    default:
      return label;
  }
}

at::Tensor DomainOf(const Head& head, const data::Label& column) {
  const std::string where = "label column " + head.domain_label;
  if (column.ints.empty()) throw DataError(where + " is the domain of a row and has to hold whole numbers");
  for (const int64_t domain : column.ints) {
    if (domain >= 0 && domain < head.domains) continue;
    throw DataError(where + " holds " + std::to_string(domain) + "; task_domain_num " + std::to_string(head.domains) +
                    " allows 0 to " + std::to_string(head.domains - 1));
  }
  return at::from_blob(const_cast<int64_t*>(column.ints.data()), {static_cast<int64_t>(column.ints.size())}, at::kLong);
}

at::Tensor FirstIds(const data::Batch& batch, int feature) {
  at::Tensor ids = at::zeros({batch.rows}, at::kLong);
  int64_t* id = ids.mutable_data_ptr<int64_t>();
  const int64_t* offsets = batch.sparse.offsets.data() + feature * batch.rows;
  for (int64_t row = 0; row < batch.rows; ++row) {
    if (offsets[row] < offsets[row + 1]) id[row] = batch.sparse.values[offsets[row]];
  }
  if (batch.labels.empty() || batch.labels.front().offsets.empty()) return ids;
  const auto& ends = batch.labels.front().offsets;
  return at::repeat_interleave(ids,
                               at::from_blob(const_cast<int64_t*>(ends.data()), {batch.rows + 1}, at::kLong).diff());
}

Network::Network(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
                 const std::string& tower)
    : plan_(PlanEmbeddings(config.model_config(), features, config, tower)),
      label_fields_(config.data_config().label_fields().begin(), config.data_config().label_fields().end()),
      sample_weight_fields_(config.data_config().sample_weight_fields().begin(),
                            config.data_config().sample_weight_fields().end()),
      dense_embeddings_(plan_),
      encoders_(plan_),
      dropouts_(plan_, config.model_config()),
      model_(MakeModel({config.model_config(), plan_, label_fields_, sample_weight_fields_, tower})),
      pareto_(config.model_config().use_pareto_loss_weight()) {
  for (const auto* feature : features.sparse()) sparse_index_[feature->name] = feature->index;
  for (const Head& head : model_->heads()) {
    if (head.losses.empty() && tower.empty() && head.truth != Head::Truth::kNone)
      throw ConfigError("model_config: no loss is set for head '" + head.label + "'");
    for (const auto& loss : head.losses) {
      if (head.output.empty()) losses::Check(loss, head.num_class);
      const std::string session = losses::SessionName(loss);
      if (!session.empty()) SparseIndex(session, "session_name");
    }
  }
}

std::vector<nn::NamedTensor> Network::DenseParameters() const {
  return WithOthers(dense_embeddings_.NamedParameters());
}

std::vector<nn::NamedTensor> Network::StoredParameters() const {
  return WithOthers(dense_embeddings_.StoredParameters());
}

std::vector<nn::NamedTensor> Network::WithOthers(std::vector<nn::NamedTensor> parameters) const {
  for (auto& entry : encoders_.NamedParameters()) parameters.push_back(std::move(entry));
  for (auto& entry : model_->NamedParameters("model")) parameters.push_back(std::move(entry));
  for (auto& entry : dropouts_.NamedParameters()) parameters.push_back(std::move(entry));
  return parameters;
}

std::vector<nn::NamedTensor> Network::Buffers() const {
  auto buffers = encoders_.NamedBuffers();
  for (auto& entry : model_->NamedBuffers("model")) buffers.push_back(std::move(entry));
  for (auto& entry : dropouts_.NamedBuffers()) buffers.push_back(std::move(entry));
  return buffers;
}

void Network::To(at::Device device) {
  dense_embeddings_.To(device);
  encoders_.To(device);
  model_->To(device);
  dropouts_.To(device);
}

void Network::Train(bool on) {
  encoders_.Train(on);
  model_->Train(on);
  dropouts_.Train(on);
}

std::vector<std::string> Network::prediction_names() const {
  std::vector<std::string> names;
  for (const Head& head : model_->heads()) {
    if (head.only_in_training) continue;
    for (const std::string& name : PredictionNames(head)) names.push_back(name);
  }
  return names;
}

std::vector<std::string> Network::loss_names() const {
  std::vector<std::string> names;
  for (const Head& head : model_->heads()) {
    for (const auto& config : head.losses) names.push_back(losses::Name(config) + head.suffix);
  }
  return names;
}

std::vector<std::string> Network::training_loss_names() const {
  std::vector<std::string> names = loss_names();
  names.insert(names.end(), model_->own_loss_names().begin(), model_->own_loss_names().end());
  for (const std::string& name : dropouts_.penalty_names()) names.push_back(name);
  return names;
}

std::vector<double> Network::pareto_min_weights() const {
  std::vector<double> weights;
  if (!pareto_) return weights;
  for (const Head& head : model_->heads()) weights.insert(weights.end(), head.losses.size(), head.pareto_min_weight);
  return weights;
}

Predictions Network::Forward(const NetworkInput& input) {
  const nn::Autocast autocast(autocast_, input.pooled.device().type());
  const std::vector<at::Tensor> assembled =
      AssembleGroups(plan_, input.pooled, input.dense, dense_embeddings_.Forward(input.dense));
  const bool sampled = input.sampled.count > 0;
  const int64_t rows = input.pooled.size(0) - input.sampled.count;
  Predictions predictions;
  Groups groups;
  groups.sampled = input.sampled;
  for (size_t g = 0; g < assembled.size(); ++g) {
    const Group& group = plan_.groups[g];
    const bool cut = sampled && !group.item_side;
    at::Tensor encoded = encoders_.Encode(g, cut ? assembled[g].narrow(0, 0, rows) : assembled[g], input.sequences);
    if (dropouts_.Has(g)) {
      encoded = dropouts_.Forward(g, encoded, predictions);
    } else if (input.repeated && !cut) {
      nn::SetRepeatedRows(encoded, [this, &group, ids = input.repeated] { return RepeatedRowsOf(plan_, group, *ids); });
    }
    groups.plain.emplace(group.name, encoded);
  }
  for (size_t g = 0; g < input.sequences.size(); ++g) {
    groups.sequences.emplace(plan_.sequence_groups[g].name, input.sequences[g]);
  }
  std::vector<at::Tensor> outputs = model_->Forward(groups);
  for (size_t h = 0; h < heads().size(); ++h) {
    if (outputs[h].defined()) Predict(heads()[h], outputs[h], predictions);
  }
  predictions.outputs = std::move(outputs);
  predictions.in_training = training();
  if (ranks_candidates()) predictions.candidates = groups.sequence(model_->candidates()).length;
  return predictions;
}

Targets Network::MakeTargets(const data::Batch& batch) const {
  Targets targets;
  for (const Head& head : model_->heads()) {
    if (head.truth == Head::Truth::kNone) {
      targets.heads.emplace_back();
      continue;
    }
    const at::Tensor label = TruthOf(head, batch.labels.at(LabelIndex(head.label)));
    targets.heads.push_back({label, RowWeights(head, batch, *this, sample_weight_fields_), {}, {}});
    if (head.domains > 0) targets.heads.back().domain = DomainOf(head, batch.labels.at(LabelIndex(head.domain_label)));
    for (const auto& config : head.losses) {
      if (head.truth == Head::Truth::kLabel) losses::CheckLabels(config, label, head.num_class, head.label);
      const std::string session = losses::SessionName(config);
      targets.heads.back().sessions.push_back(
          session.empty() ? at::Tensor()
                          : losses::NumberSessions(FirstIds(batch, SparseIndex(session, "session_name"))));
    }
  }
  return targets;
}

Losses Network::ComputeLosses(const Predictions& predictions, const Targets& targets) const {
  const nn::Autocast autocast(autocast_, predictions.values.front().second.device().type());
  Losses losses;
  for (size_t h = 0; h < targets.heads.size(); ++h) {
    const Head& head = model_->heads()[h];
    if (head.only_in_training && !predictions.in_training) continue;
    const Targets::OfHead& target = targets.heads[h];
    for (size_t l = 0; l < head.losses.size(); ++l) {
      const auto& config = head.losses[l];
      const at::Tensor& output = LossInput(head, config, predictions, target.domain);
      // Rows without candidates have a loss of 0.
      at::Tensor loss = target.label.size(0) == 0
                            ? output.sum() * 0
                            : losses::Compute(config, {output, target.label, target.weights, target.sessions[l]});
      if (targets.factor != 1) loss = loss * targets.factor;
      losses.emplace_back(losses::Name(config) + head.suffix, loss);
    }
  }
  if (!predictions.in_training) return losses;
  const std::vector<at::Tensor> own = model_->OwnLosses(predictions.outputs, targets);
  for (size_t i = 0; i < own.size(); ++i) losses.emplace_back(model_->own_loss_names()[i], own[i]);
  losses.insert(losses.end(), predictions.penalties.begin(), predictions.penalties.end());
  return losses;
}

int Network::LabelIndex(const std::string& name) const {
  const auto found = std::find(label_fields_.begin(), label_fields_.end(), name);
  if (found == label_fields_.end()) throw ConfigError("data_config.label_fields has no '" + name + "'");
  return static_cast<int>(found - label_fields_.begin());
}

int Network::SparseIndex(const std::string& feature, const std::string& field) const {
  const auto found = sparse_index_.find(feature);
  if (found == sparse_index_.end()) throw ConfigError(field + ": there is no sparse feature '" + feature + "'");
  return found->second;
}

}  // namespace anneal::models
