// The models by the name of their field in model_config's oneof.
#include <functional>
#include <map>

#include "worker/config/error.h"
#include "worker/models/dat.h"
#include "worker/models/dbmtl.h"
#include "worker/models/dc2vr.h"
#include "worker/models/dcn.h"
#include "worker/models/deepfm.h"
#include "worker/models/dlrm.h"
#include "worker/models/dssm.h"
#include "worker/models/hstu_ranker.h"
#include "worker/models/mask_net.h"
#include "worker/models/mind.h"
#include "worker/models/mmoe.h"
#include "worker/models/model.h"
#include "worker/models/multi_tower.h"
#include "worker/models/pepnet.h"
#include "worker/models/ple.h"
#include "worker/models/rocket_launching.h"
#include "worker/models/sid_rqvae.h"
#include "worker/models/tdm.h"
#include "worker/models/wide_and_deep.h"
#include "worker/models/wukong.h"
#include "worker/models/xdeepfm.h"

namespace anneal::models {
namespace {

template <typename T>
std::unique_ptr<Model> Make(const ModelInput& input) {
  return std::make_unique<T>(input);
}

const std::map<std::string, std::unique_ptr<Model> (*)(const ModelInput&)>& Registry() {
  static const std::map<std::string, std::unique_ptr<Model> (*)(const ModelInput&)> models = {
      {"dat", &Make<Dat>},
      {"dbmtl", &Make<Dbmtl>},
      {"dc2vr", &Make<Dc2vr>},
      {"dcn_v1", &Make<DcnV1>},
      {"dcn_v2", &Make<DcnV2>},
      {"deepfm", &Make<DeepFm>},
      {"dlrm", &Make<Dlrm>},
      {"dlrm_hstu", &Make<DlrmHstu>},
      {"dssm", &Make<Dssm>},
      {"dssm_v2", &Make<DssmV2>},
      {"mask_net", &Make<MaskNetModel>},
      {"mind", &Make<Mind>},
      {"mmoe", &Make<MmoeModel>},
      {"multi_tower", &Make<MultiTower>},
      {"multi_tower_din", &Make<MultiTower>},
      {"pepnet", &Make<PepNet>},
      {"ple", &Make<Ple>},
      {"rocket_launching", &Make<RocketLaunching>},
      {"sid_rqvae", &Make<SidRqvae>},
      {"tdm", &Make<Tdm>},
      {"ultra_hstu", &Make<UltraHstu>},
      {"wide_and_deep", &Make<WideAndDeep>},
      {"wukong", &Make<WuKong>},
      {"xdeepfm", &Make<XDeepFm>},
  };
  return models;
}

}  // namespace

std::vector<at::Tensor> Model::OwnLosses(const std::vector<at::Tensor>&, const Targets&) const { return {}; }

std::vector<Model::Mean> Model::OwnMetrics(const std::vector<at::Tensor>&) const { return {}; }

const Group& ModelInput::RequireGroup(const std::string& name) const {
  const Group* group = plan.FindGroup(name);
  if (!group) throw ConfigError("model_config: the model needs a feature group named '" + name + "'");
  return *group;
}

const Group& ModelInput::FirstGroup() const {
  if (config.feature_groups_size() == 0) throw ConfigError("model_config: there is no feature group");
  return RequireGroup(config.feature_groups(0).group_name());
}

const SequenceGroup& ModelInput::RequireSequenceGroup(const std::string& name) const {
  const SequenceGroup* group = plan.FindSequenceGroup(name);
  if (!group || group->jagged) throw ConfigError("model_config: the model needs a SEQUENCE group named '" + name + "'");
  return *group;
}

const SequenceGroup& ModelInput::RequireJaggedGroup(const std::string& name) const {
  const SequenceGroup* group = plan.FindSequenceGroup(name);
  if (!group || !group->jagged)
    throw ConfigError("model_config: the model needs a JAGGED_SEQUENCE group named '" + name + "'");
  if (!group->query.empty())
    throw ConfigError("model_config: group '" + name + "' of this model has a feature that is no sequence");
  return *group;
}

Head ModelInput::SingleHead() const {
  if (label_fields.empty()) throw ConfigError("data_config.label_fields is empty");
  Head head;
  head.label = label_fields.front();
  head.num_class = static_cast<int>(config.num_class());
  head.losses.assign(config.losses().begin(), config.losses().end());
  head.metrics.assign(config.metrics().begin(), config.metrics().end());
  head.train_metrics.assign(config.train_metrics().begin(), config.train_metrics().end());
  // parity/models.md 7.2: the first sample weight, normalised to mean 1 over the batch.
  if (!sample_weight_fields.empty()) {
    head.weighted = true;
    head.sample_weight = sample_weight_fields.front();
  }
  return head;
}

std::unique_ptr<Model> MakeModel(const ModelInput& input) {
  const auto* oneof = input.config.GetDescriptor()->FindOneofByName("model");
  const auto* field = input.config.GetReflection()->GetOneofFieldDescriptor(input.config, oneof);
  if (!field) throw ConfigError("model_config: no model is set");
  const auto found = Registry().find(field->name());
  if (found == Registry().end()) throw ConfigError("model_config." + field->name() + ": not supported yet");
  return found->second(input);
}

}  // namespace anneal::models
