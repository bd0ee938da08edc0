#include "worker/models/head.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "worker/config/error.h"
#include "worker/losses/loss.h"

namespace anneal::models {

const at::Tensor& Predictions::at(const std::string& name) const {
  for (const auto& [key, value] : values) {
    if (key == name) return value;
  }
  throw ConfigError("the model makes no prediction named '" + name + "'");
}

Targets Targets::Map(const std::function<at::Tensor(const at::Tensor&)>& change) const {
  const auto map = [&](const at::Tensor& tensor) { return tensor.defined() ? change(tensor) : tensor; };
  Targets mapped;
  mapped.factor = factor;
  for (const OfHead& head : heads) {
    mapped.heads.push_back({map(head.label), map(head.weights), map(head.domain), {}});
    for (const at::Tensor& sessions : head.sessions) mapped.heads.back().sessions.push_back(map(sessions));
  }
  return mapped;
}

namespace {

/// logits, probs, probs1, y, as far as the losses train them.
std::vector<std::string> Kinds(const Head& head) {
  std::vector<std::string> kinds;
  const auto add = [&](const char* kind) {
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.emplace_back(kind);
  };
  for (const auto& loss : head.losses) {
    if (losses::OutputOf(loss) == losses::Output::kValue) {
      add("y");
      continue;
    }
    add("logits");
    add("probs");
    if (head.num_class == 2) add("probs1");
  }
  return kinds;
}

/// The endings of the names of predictions, one for each domain.
std::vector<std::string> Suffixes(const Head& head) {
  if (head.domains == 0) return {head.suffix};
  std::vector<std::string> suffixes;
  for (int d = 0; d < head.domains; ++d) suffixes.push_back(head.suffix + "_" + std::to_string(d));
  return suffixes;
}

}  // namespace

std::vector<std::string> PredictionNames(const Head& head) {
  if (!head.output.empty()) return {head.output + head.suffix};
  std::vector<std::string> names;
  for (const std::string& suffix : Suffixes(head)) {
    for (const std::string& kind : Kinds(head)) names.push_back(kind + suffix);
  }
  return names;
}

void Predict(const Head& head, const at::Tensor& output, Predictions& predictions) {
  if (!head.output.empty()) {
    predictions.values.emplace_back(head.output + head.suffix, output);
    return;
  }
  const bool classes = head.num_class > 1;
  const std::vector<std::string> suffixes = Suffixes(head);
  for (size_t d = 0; d < suffixes.size(); ++d) {
    const at::Tensor logits = classes               ? output
                              : suffixes.size() > 1 ? output.select(1, static_cast<int64_t>(d))
                                                    : output.squeeze(1);
    at::Tensor probs;
    for (const std::string& kind : Kinds(head)) {
      if (kind == "probs") probs = classes ? at::softmax(logits, 1) : at::sigmoid(logits);
      predictions.values.emplace_back(kind + suffixes[d], kind == "probs"    ? probs
                                                          : kind == "probs1" ? probs.select(1, 1)
                                                                             : logits);
    }
  }
}

at::Tensor JudgedPrediction(const Head& head, const std::string& kind, const Predictions& predictions,
                            const at::Tensor& domain) {
  if (!head.output.empty()) return predictions.at(head.output + head.suffix);
  if (head.domains == 0) return predictions.at(kind + head.suffix);
  std::vector<at::Tensor> of_domains;
  for (const std::string& suffix : Suffixes(head)) of_domains.push_back(predictions.at(kind + suffix));
  return at::stack(of_domains, 1).gather(1, domain.unsqueeze(1)).squeeze(1);
}

at::Tensor LossInput(const Head& head, const tzrec::protos::LossConfig& loss, const Predictions& predictions,
                     const at::Tensor& domain) {
  const bool value = losses::OutputOf(loss) == losses::Output::kValue;
  return JudgedPrediction(head, value ? "y" : "logits", predictions, domain);
}

}  // namespace anneal::models
