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
      case ModelConfig::kDcnV1:
        return Rules(model_.dcn_v1(), "model_config.dcn_v1");
      case ModelConfig::kDcnV2:
        return Rules(model_.dcn_v2(), "model_config.dcn_v2");
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

  void Rules(const DCNV1& model, const std::string& path) {
    NeedsAnyGroup(path);
    AtLeastOne(model.cross().cross_num(), path + ".cross.cross_num");
    checks_.mlp(model.deep(), path + ".deep");
    checks_.mlp(model.final(), path + ".final");
    checks_.single_head();
  }

  void Rules(const DCNV2& model, const std::string& path) {
    NeedsAnyGroup(path);
    if (model.has_backbone()) checks_.mlp(model.backbone(), path + ".backbone");
    AtLeastOne(model.cross().cross_num(), path + ".cross.cross_num");
    AtLeastOne(model.cross().low_rank(), path + ".cross.low_rank");
    if (model.has_deep()) checks_.mlp(model.deep(), path + ".deep");
    checks_.mlp(model.final(), path + ".final");
    checks_.single_head();
  }

  void AtLeastOne(int64_t value, const std::string& path) {
    if (value == 0) checks_.fail(path, "must be at least 1");
  }

  void NeedsAnyGroup(const std::string& path) {
    if (model_.feature_groups_size() == 0) checks_.fail(path, "there is no feature group");
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
