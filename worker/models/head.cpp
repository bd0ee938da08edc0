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
  for (const OfHead& head : heads) {
    mapped.heads.push_back({map(head.label), map(head.weights), {}});
    for (const at::Tensor& sessions : head.sessions) mapped.heads.back().sessions.push_back(map(sessions));
  }
  return mapped;
}

std::vector<std::string> PredictionNames(const Head& head) {
  if (!head.output.empty()) return {head.output + head.suffix};
  std::vector<std::string> names;
  const auto add = [&](const char* name) {
    if (std::find(names.begin(), names.end(), name + head.suffix) == names.end()) names.push_back(name + head.suffix);
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
  return names;
}

void Predict(const Head& head, const at::Tensor& output, Predictions& predictions) {
  if (!head.output.empty()) {
    predictions.values.emplace_back(head.output + head.suffix, output);
    return;
  }
  const bool classes = head.num_class > 1;
  const at::Tensor logits = classes ? output : output.squeeze(1);
  at::Tensor probs;
  for (const std::string& name : PredictionNames(head)) {
    const std::string kind = name.substr(0, name.size() - head.suffix.size());
    if (kind == "probs") probs = classes ? at::softmax(logits, 1) : at::sigmoid(logits);
    predictions.values.emplace_back(name, kind == "probs" ? probs : kind == "probs1" ? probs.select(1, 1) : logits);
  }
}

const at::Tensor& LossInput(const Head& head, const tzrec::protos::LossConfig& loss, const Predictions& predictions) {
  if (!head.output.empty()) return predictions.at(head.output + head.suffix);
  return predictions.at((losses::OutputOf(loss) == losses::Output::kValue ? "y" : "logits") + head.suffix);
}

}  // namespace anneal::models
