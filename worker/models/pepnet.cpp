#include "worker/models/pepnet.h"

#include <algorithm>

#include "worker/config/error.h"

namespace anneal::models {
namespace {

nn::PpNet::Layers LayersOf(const tzrec::protos::PEPNet& config) {
  const int layers = config.ppnet_hidden_units_size(), ratios = config.ppnet_dropout_ratio_size();
  if (layers == 0) throw ConfigError("model_config.pepnet: the feature group 'uia' needs ppnet_hidden_units");
  if (ratios > 1 && ratios != layers) {
    throw ConfigError("model_config.pepnet.ppnet_dropout_ratio: " + std::to_string(ratios) + " values for " +
                      std::to_string(layers) + " ppnet_hidden_units");
  }
  nn::PpNet::Layers parts{{}, {}, config.ppnet_activation(), config.ppnet_gamma()};
  for (int l = 0; l < layers; ++l) {
    parts.units.push_back(config.ppnet_hidden_units(l));
    parts.dropout.push_back(ratios == 0 ? 0.0 : config.ppnet_dropout_ratio(ratios == 1 ? 0 : l));
  }
  return parts;
}

void RequireLabel(const std::string& label, const ModelInput& input) {
  if (std::find(input.label_fields.begin(), input.label_fields.end(), label) == input.label_fields.end())
    throw ConfigError("model_config.pepnet.domain_input_name: '" + label + "' is not in data_config.label_fields");
}

}  // namespace

PepNet::PepNet(const ModelInput& input) : tasks_(input.config.pepnet().task_towers_size()) {
  const auto& config = input.config.pepnet();
  int64_t width = input.RequireGroup("all").width;
  if (const Group* domain = input.plan.FindGroup("domain")) {
    const int64_t hidden = config.epnet_hidden_unit() > 0 ? config.epnet_hidden_unit() : width;
    epnet_ = std::make_unique<nn::EpNet>(width, domain->width, hidden, config.epnet_gamma());
    RegisterModule("epnet", *epnet_);
  }
  if (const Group* uia = input.plan.FindGroup("uia")) {
    const nn::PpNet::Layers layers = LayersOf(config);
    ppnet_ = std::make_unique<nn::PpNet>(width, uia->width, static_cast<int>(tasks_), layers);
    RegisterModule("ppnet", *ppnet_);
    width = layers.units.back();
  }
  const std::string& label = config.domain_input_name();
  Domains domains;
  if (!label.empty()) domains = {static_cast<int>(config.task_domain_num()), label};
  AddTowers(config.task_towers(), width, input, domains);
  if (!label.empty()) RequireLabel(label, input);
}

std::vector<at::Tensor> PepNet::Forward(const Groups& groups) {
  at::Tensor x = groups.at("all");
  if (epnet_) x = epnet_->Forward(x, groups.at("domain"));
  return Towers(ppnet_ ? ppnet_->Forward(x, groups.at("uia")) : std::vector<at::Tensor>(tasks_, x));
}

}  // namespace anneal::models
