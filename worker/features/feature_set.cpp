#include "worker/features/feature_set.h"

#include <algorithm>
#include <array>
#include <limits>

#include "worker/config/error.h"
#include "worker/features/vocabulary.h"

namespace anneal::features {
namespace {

using tzrec::protos::FeatureConfig;
using tzrec::protos::FgMode;
using tzrec::protos::IdFeature;
using tzrec::protos::RawFeature;

std::string Quoted(const std::string& text) { return "\"" + text + "\""; }

[[noreturn]] void Fail(const Feature& feature, const std::string& what) {
  throw ConfigError("feature " + feature.name + ": " + what);
}

/// `fg_encoded` is the old name of the mode and wins when it is there (parity/features.md 2).
FgMode EffectiveFgMode(const tzrec::protos::DataConfig& config) {
  if (!config.has_fg_encoded()) return config.fg_mode();
  if (config.fg_encoded()) return tzrec::protos::FG_NONE;
  return config.fg_threads() > 0 ? tzrec::protos::FG_DAG : tzrec::protos::FG_NORMAL;
}

bool ReadsOwnColumn(FgMode mode) { return mode == tzrec::protos::FG_NONE || mode == tzrec::protos::FG_BUCKETIZE; }

/// Sets side and inputs from "side:column".
void ReadExpression(const std::string& expression, FgMode mode, Feature& feature) {
  if (ReadsOwnColumn(mode)) feature.inputs = {feature.name};
  if (expression.empty()) {
    if (ReadsOwnColumn(mode)) return;
    Fail(feature, "expression is missing");
  }
  static const std::array<std::string, 5> kSides = {"user", "item", "context", "feature", "const"};
  const size_t colon = expression.find(':');
  feature.side = expression.substr(0, colon);
  if (colon == std::string::npos || colon + 1 == expression.size() ||
      std::find(kSides.begin(), kSides.end(), feature.side) == kSides.end()) {
    Fail(feature, "expression " + Quoted(expression) +
                      " is not \"side:name\" with a side of user, item, context, feature, const");
  }
  if (ReadsOwnColumn(mode)) return;
  if (mode == tzrec::protos::FG_DAG) {
    if (feature.side == "const") return;
    if (feature.side == "feature") {
      Fail(feature,
           "expression " + Quoted(expression) + " reads another feature, which is not supported yet in FG_DAG");
    }
  }
  feature.inputs = {expression.substr(colon + 1)};
}

Pooling ReadPooling(const std::string& text, const Feature& feature) {
  if (text == "sum") return Pooling::kSum;
  if (text == "mean") return Pooling::kMean;
  Fail(feature, "pooling " + Quoted(text) + " is neither \"sum\" nor \"mean\"");
}

/// Rows of the table (parity/features.md 1).
int64_t Rows(const IdFeature& config, const Feature& feature) {
  if (config.has_zch()) Fail(feature, "zch is not supported yet");
  if (config.has_dynamicemb()) Fail(feature, "dynamicemb is not supported yet");
  std::vector<std::string> set;
  if (config.has_hash_bucket_size()) set.push_back("hash_bucket_size");
  if (config.has_num_buckets()) set.push_back("num_buckets");
  if (config.vocab_list_size() > 0) set.push_back("vocab_list");
  if (config.vocab_dict_size() > 0) set.push_back("vocab_dict");
  if (config.has_vocab_file()) set.push_back("vocab_file");
  if (set.empty()) {
    Fail(feature, "needs one of hash_bucket_size, num_buckets, vocab_list, vocab_dict, vocab_file");
  }
  if (set.size() > 1) Fail(feature, set[0] + " and " + set[1] + " exclude each other");
  uint64_t rows = 0;
  if (config.has_hash_bucket_size()) {
    rows = config.hash_bucket_size();
  } else if (config.has_num_buckets()) {
    rows = config.num_buckets();
  } else {
    rows = static_cast<uint64_t>(Vocabulary::FromConfig(config).rows());
  }
  if (rows == 0 || rows > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    Fail(feature, set[0] + " gives a table of " + std::to_string(rows) + " rows");
  }
  return static_cast<int64_t>(rows);
}

/// What id_feature and raw_feature configure alike.
template <typename Config>
void ReadTable(const Config& config, Feature& feature) {
  feature.table = config.embedding_name().empty() ? feature.name + "_emb" : config.embedding_name();
  feature.embedding_dim = config.embedding_dim();
  if (feature.embedding_dim == 0) Fail(feature, "embedding_dim has to be above 0");
  feature.pooling = ReadPooling(config.pooling(), feature);
  feature.init_fn = config.init_fn();
  feature.trainable = config.trainable();
  feature.data_type = config.data_type();
  if (feature.data_type != "FP32" && feature.data_type != "FP16") {
    Fail(feature, "data_type " + Quoted(feature.data_type) + " is neither \"FP32\" nor \"FP16\"");
  }
}

void ReadId(const IdFeature& config, FgMode mode, Feature& feature) {
  feature.kind = Kind::kId;
  feature.value_dim = config.value_dim();  // absent: 0, all of them
  feature.weighted = config.weighted();
  ReadExpression(config.expression(), mode, feature);
  ReadTable(config, feature);
  feature.num_embeddings = Rows(config, feature);
}

void ReadRaw(const RawFeature& config, FgMode mode, Feature& feature) {
  feature.kind = Kind::kRaw;
  feature.sparse = config.boundaries_size() > 0;
  feature.value_dim = config.value_dim();
  if (feature.value_dim == 0) Fail(feature, "value_dim has to be above 0");
  ReadExpression(config.expression(), mode, feature);
  if (!feature.sparse) {
    if (config.has_autodis()) Fail(feature, "autodis is not supported yet");
    if (config.has_mlp()) Fail(feature, "mlp is not supported yet");
    return;
  }
  if (!std::is_sorted(config.boundaries().begin(), config.boundaries().end())) {
    Fail(feature, "boundaries are not ascending");
  }
  ReadTable(config, feature);
  feature.num_embeddings = config.boundaries_size() + 1;
}

/// Features of one table name have to mean the same table.
void CheckSharing(const std::vector<Feature>& features) {
  std::unordered_map<std::string, const Feature*> first_of;
  for (const Feature& feature : features) {
    if (!feature.sparse) continue;
    const Feature& first = *first_of.try_emplace(feature.table, &feature).first->second;
    const auto differ = [&](const char* what) {
      Fail(feature, "can not share embedding " + Quoted(feature.table) + " with feature " + first.name + ": " + what +
                        " differs");
    };
    if (first.num_embeddings != feature.num_embeddings) differ("the number of rows");
    if (first.embedding_dim != feature.embedding_dim) differ("embedding_dim");
    if (first.pooling != feature.pooling) differ("pooling");
    if (first.init_fn != feature.init_fn) differ("init_fn");
  }
}

}  // namespace

FeatureSet FeatureSet::FromConfig(const tzrec::protos::EasyRecConfig& config) {
  FeatureSet set;
  set.fg_mode_ = EffectiveFgMode(config.data_config());
  for (int i = 0; i < config.feature_configs_size(); ++i) {
    const FeatureConfig& one = config.feature_configs(i);
    Feature feature;
    feature.config_index = i;
    bool stub = false;
    switch (one.feature_case()) {
      case FeatureConfig::kIdFeature:
        feature.name = one.id_feature().feature_name();
        stub = one.id_feature().stub_type();
        break;
      case FeatureConfig::kRawFeature:
        feature.name = one.raw_feature().feature_name();
        stub = one.raw_feature().stub_type();
        break;
      case FeatureConfig::FEATURE_NOT_SET:
        throw ConfigError("feature_configs[" + std::to_string(i) + "] holds no feature");
      default:
        throw ConfigError("feature_configs[" + std::to_string(i) +
                          "]: " + FeatureConfig::descriptor()->FindFieldByNumber(one.feature_case())->name() +
                          " is not supported yet (supported: id_feature, raw_feature)");
    }
    if (feature.name.empty()) {
      throw ConfigError("feature_configs[" + std::to_string(i) + "]: feature_name is missing");
    }
    if (stub) {
      if (set.fg_mode_ == tzrec::protos::FG_NORMAL) Fail(feature, "stub_type is not allowed in FG_NORMAL");
      continue;  // only other features read it
    }
    if (one.has_id_feature()) {
      ReadId(one.id_feature(), set.fg_mode_, feature);
    } else {
      ReadRaw(one.raw_feature(), set.fg_mode_, feature);
    }
    set.all_.push_back(std::move(feature));
  }
  CheckSharing(set.all_);

  for (Feature& feature : set.all_) {
    if (!set.by_name_.try_emplace(feature.name, &feature).second) Fail(feature, "is configured twice");
    for (const std::string& column : feature.inputs) {
      if (std::find(set.input_columns_.begin(), set.input_columns_.end(), column) == set.input_columns_.end()) {
        set.input_columns_.push_back(column);
      }
    }
    std::vector<const Feature*>& kind = feature.sparse ? set.sparse_ : set.dense_;
    feature.index = static_cast<int>(kind.size());
    kind.push_back(&feature);
    if (!feature.sparse) {
      feature.dense_column = set.dense_width_;
      set.dense_width_ += feature.value_dim;
    }
    set.weighted_ = set.weighted_ || feature.weighted;
  }
  return set;
}

const Feature* FeatureSet::Find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

}  // namespace anneal::features
