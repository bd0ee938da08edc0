#include "worker/models/embedding_group.h"

#include <algorithm>
#include <map>

#include "worker/config/error.h"

namespace anneal::models {
namespace {

using tzrec::protos::FeatureGroupConfig;

/// Width and init function of WIDE tables: fields of the models that have them.
struct Wide {
  int64_t dim = 4;
  std::string init_fn;
};

Wide WideSettings(const tzrec::protos::ModelConfig& model) {
  Wide wide;
  auto take = [&wide](const auto& message) {
    if (message.wide_embedding_dim() > 0) wide.dim = message.wide_embedding_dim();
    wide.init_fn = message.wide_init_fn();
  };
  if (model.has_deepfm()) take(model.deepfm());
  if (model.has_wide_and_deep()) take(model.wide_and_deep());
  if (model.has_xdeepfm()) take(model.xdeepfm());
  return wide;
}

tzrec::protos::ParameterConstraints ConstraintsOf(const features::Feature& feature,
                                                  const tzrec::protos::EasyRecConfig& config) {
  const auto& entry = config.feature_configs(feature.config_index);
  if (entry.has_id_feature()) return entry.id_feature().embedding_constraints();
  if (entry.has_raw_feature()) return entry.raw_feature().embedding_constraints();
  return {};
}

class Planner {
 public:
  Planner(const tzrec::protos::ModelConfig& model, const features::FeatureSet& features,
          const tzrec::protos::EasyRecConfig& config)
      : model_(model), features_(features), config_(config), wide_(WideSettings(model)) {}

  EmbeddingPlan Run() {
    plan_.dense_width = features_.dense_width();
    plan_.weighted = features_.weighted();
    for (const auto& group : model_.feature_groups()) AddGroup(group);
    return std::move(plan_);
  }

 private:
  void AddGroup(const FeatureGroupConfig& config) {
    const std::string where = "feature group '" + config.group_name() + "'";
    const auto type = config.group_type();
    if (type != tzrec::protos::DEEP && type != tzrec::protos::WIDE) {
      throw ConfigError(where + ": group_type " + FeatureGroupType_Name(type) + " is not supported yet");
    }
    if (config.sequence_groups_size() > 0) throw ConfigError(where + ": sequence_groups are not supported yet");
    Group group;
    group.name = config.group_name();
    group.type = type;
    for (const auto& name : config.feature_names()) {
      const features::Feature* feature = features_.Find(name);
      if (!feature) throw ConfigError(where + ": there is no feature '" + name + "'");
      Block block;
      if (feature->sparse) {
        const Lookup& lookup = LookupOf(*feature, config, where);
        block = {true, lookup.column, lookup.dim};
      } else {
        if (type == tzrec::protos::WIDE) throw ConfigError(where + ": the dense feature '" + name + "' cannot be WIDE");
        block = {false, feature->dense_column, feature->value_dim};
      }
      group.features.push_back(name);
      group.feature_dims.push_back(block.width);
      group.width += block.width;
      Append(group.blocks, block);
    }
    group.assembled_width = group.width;
    if (group.width == 0) throw ConfigError(where + ": it has no features");
    plan_.groups.push_back(std::move(group));
  }

  static void Append(std::vector<Block>& blocks, const Block& block) {
    if (!blocks.empty()) {
      Block& last = blocks.back();
      if (last.pooled == block.pooled && last.column + last.width == block.column) {
        last.width += block.width;
        return;
      }
    }
    blocks.push_back(block);
  }

  const Lookup& LookupOf(const features::Feature& feature, const FeatureGroupConfig& group, const std::string& where) {
    Table table{feature.table,     feature.num_embeddings, feature.embedding_dim,          feature.init_fn,
                feature.trainable, feature.pooling,        ConstraintsOf(feature, config_)};
    if (group.group_type() == tzrec::protos::WIDE) {
      table.name += "_wide";
      table.dim = wide_.dim;
      if (!wide_.init_fn.empty()) table.init_fn = wide_.init_fn;
    }
    if (group.has_embedding_name_suffix()) table.name += "_" + group.embedding_name_suffix();
    const int index = Share(table, feature.name, where);
    for (const Lookup& lookup : plan_.lookups) {
      if (lookup.feature == feature.index && lookup.table == index) return lookup;
    }
    plan_.lookups.push_back({feature.index, index, plan_.pooled_width, table.dim});
    plan_.pooled_width += table.dim;
    return plan_.lookups.back();
  }

  int Share(const Table& table, const std::string& feature, const std::string& where) {
    const auto [found, inserted] = table_index_.try_emplace(table.name, static_cast<int>(plan_.tables.size()));
    if (inserted) {
      plan_.tables.push_back(table);
      return found->second;
    }
    Table& other = plan_.tables[found->second];
    if (other.rows != table.rows || other.dim != table.dim || other.init_fn != table.init_fn ||
        other.pooling != table.pooling) {
      throw ConfigError(where + ": feature '" + feature + "' can not share embedding '" + table.name +
                        "': rows, width, pooling and init_fn have to agree");
    }
    other.trainable = other.trainable && table.trainable;
    if (other.constraints.sharding_types_size() == 0 && other.constraints.compute_kernels_size() == 0) {
      other.constraints = table.constraints;
    }
    return found->second;
  }

  const tzrec::protos::ModelConfig& model_;
  const features::FeatureSet& features_;
  const tzrec::protos::EasyRecConfig& config_;
  const Wide wide_;
  EmbeddingPlan plan_;
  std::map<std::string, int> table_index_;
};

}  // namespace

std::string Table::module_path() const {
  const std::string root = "model.embedding_group.";
  return sequence ? root + "seq_emb_impls.__BASE__.ec_dict." + std::to_string(dim) : root + "emb_impls.__BASE__.ebc";
}

std::string Table::state_name() const {
  return module_path() + (sequence ? ".embeddings." : ".embedding_bags.") + name + ".weight";
}

const Group* EmbeddingPlan::FindGroup(const std::string& name) const {
  const auto found = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.name == name; });
  return found == groups.end() ? nullptr : &*found;
}

const SequenceGroup* EmbeddingPlan::FindSequenceGroup(const std::string& name) const {
  const auto found = std::find_if(sequence_groups.begin(), sequence_groups.end(),
                                  [&](const SequenceGroup& g) { return g.name == name; });
  return found == sequence_groups.end() ? nullptr : &*found;
}

EmbeddingPlan PlanEmbeddings(const tzrec::protos::ModelConfig& model, const features::FeatureSet& features,
                             const tzrec::protos::EasyRecConfig& config) {
  return Planner(model, features, config).Run();
}

}  // namespace anneal::models
