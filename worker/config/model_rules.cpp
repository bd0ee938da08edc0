#include "worker/config/model_rules.h"

namespace anneal::config {
namespace {

using namespace tzrec::protos;  // NOLINT: the schema

class ModelRules {
 public:
  ModelRules(const ModelConfig& model, const ModelChecks& checks) : model_(model), checks_(checks) {}

  void Run() {
    switch (model_.model_case()) {
      case ModelConfig::kWideAndDeep:
        return Rules(model_.wide_and_deep(), "model_config.wide_and_deep");
      default:
        return;
    }
  }

 private:
  void Rules(const WideAndDeep& model, const std::string& path) {
    NeedsGroup("wide", path);
    NeedsGroup("deep", path);
    checks_.mlp(model.deep(), path + ".deep");
    if (model.has_final()) checks_.mlp(model.final(), path + ".final");
    checks_.single_head();
  }

  const FeatureGroupConfig* FindGroup(const std::string& name) const {
    for (const auto& group : model_.feature_groups()) {
      if (group.group_name() == name) return &group;
    }
    return nullptr;
  }

  void NeedsGroup(const std::string& name, const std::string& path) {
    if (!FindGroup(name)) checks_.fail(path, "needs a feature group named '" + name + "'");
  }

  const ModelConfig& model_;
  const ModelChecks& checks_;
};

}  // namespace

void CheckModel(const ModelConfig& model, const ModelChecks& checks) { ModelRules(model, checks).Run(); }

}  // namespace anneal::config
