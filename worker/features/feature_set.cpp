#include "worker/features/feature_set.h"

#include <algorithm>
#include <array>
#include <limits>

#include "worker/config/error.h"
#include "worker/features/feature_config.h"
#include "worker/features/vocabulary.h"

namespace anneal::features {
namespace {

using tzrec::protos::FeatureConfig;
using tzrec::protos::FgMode;
using tzrec::protos::IdFeature;
using tzrec::protos::RawFeature;
using tzrec::protos::SeqFeatureConfig;
using tzrec::protos::SequenceFeature;

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
template <typename Config>
void ReadExpression(const Config& config, FgMode mode, Feature& feature) {
  const std::string& expression = config.expression();
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
  const std::string input = expression.substr(colon + 1);
  for (const std::string& field : config.sequence_fields()) {
    if (!feature.sequence || field != input) {
      Fail(feature, "sequence_fields other than the input of a sequence is not supported yet");
    }
  }
  if (ReadsOwnColumn(mode)) return;
  if (mode == tzrec::protos::FG_DAG) {
    if (feature.side == "const") {
      if (feature.sequence) {
        Fail(feature, "expression " + Quoted(expression) + " gives a sequence a literal, which is not supported yet");
      }
      return;
    }
    if (feature.side == "feature") {
      Fail(feature,
           "expression " + Quoted(expression) + " reads another feature, which is not supported yet in FG_DAG");
    }
  }
  const bool of_group = !feature.sequence_name.empty() && (feature.side != "feature" || config.sequence_fields_size());
  feature.inputs = {of_group ? feature.sequence_name + "__" + input : input};
}

/// What sequences can not have yet.
template <typename Config>
void CheckElements(const Config& config, const Feature& feature) {
  if (feature.sequence_delim.empty()) Fail(feature, "sequence_delim is empty");
  if (!feature.sparse) return;
  if (config.value_dim() != 1) {
    Fail(feature, "value_dim " + std::to_string(config.value_dim()) + " of a sequence of ids is not supported yet");
  }
  if (feature.weighted) Fail(feature, "weighted in a sequence is not supported yet");
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

void ReadKind(const IdFeature& config, FgMode mode, Feature& feature) {
  feature.kind = Kind::kId;
  feature.value_dim = config.value_dim();  // absent: 0, all of them
  feature.weighted = config.weighted();
  if (feature.sequence) CheckElements(config, feature);
  ReadExpression(config, mode, feature);
  ReadTable(config, feature);
  feature.num_embeddings = Rows(config, feature);
}

void ReadKind(const RawFeature& config, FgMode mode, Feature& feature) {
  feature.kind = Kind::kRaw;
  feature.sparse = config.boundaries_size() > 0;
  feature.value_dim = config.value_dim();
  if (feature.value_dim == 0) Fail(feature, "value_dim has to be above 0");
  if (feature.sequence) CheckElements(config, feature);
  ReadExpression(config, mode, feature);
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

/// Reads the entries of feature_configs one after the other.
class Reader {
 public:
  Reader(FgMode mode, std::vector<Feature>& features) : mode_(mode), features_(features) {}

  void Read(const FeatureConfig& one, int index) {
    path_ = "feature_configs[" + std::to_string(index) + "]";
    Feature start;
    start.config_index = index;
    switch (one.feature_case()) {
      case FeatureConfig::kIdFeature:
        return Add(one.id_feature(), start);
      case FeatureConfig::kRawFeature:
        return Add(one.raw_feature(), start);
      case FeatureConfig::kSequenceIdFeature:
        return AddAlone(one.sequence_id_feature(), start);
      case FeatureConfig::kSequenceRawFeature:
        return AddAlone(one.sequence_raw_feature(), start);
      case FeatureConfig::kSequenceFeature:
        return AddGroup(one.sequence_feature(), start);
      default:
        Refuse(one, "id_feature, raw_feature, sequence_feature, sequence_id_feature, sequence_raw_feature");
    }
  }

 private:
  template <typename Config>
  void AddAlone(const Config& config, Feature start) {
    start.sequence = true;
    start.sequence_delim = config.sequence_delim();
    start.sequence_length = config.sequence_length();
    Add(config, start);
  }

  void AddGroup(const SequenceFeature& group, Feature start) {
    if (group.sequence_name().empty()) throw ConfigError(path_ + ": sequence_name is missing");
    const auto earlier = std::find_if(features_.begin(), features_.end(),
                                      [&](const Feature& f) { return f.sequence_name == group.sequence_name(); });
    if (earlier != features_.end()) {
      throw ConfigError(path_ + ": sequence_name " + Quoted(group.sequence_name()) + " is used twice");
    }
    if (group.features_size() == 0) {
      throw ConfigError(path_ + ": the sequence " + Quoted(group.sequence_name()) + " has no features");
    }
    start.sequence = true;
    start.sequence_name = group.sequence_name();
    start.sequence_delim = group.sequence_delim();
    start.sequence_length = group.sequence_length();
    const std::string path = path_ + ".sequence_feature.features[";
    for (int i = 0; i < group.features_size(); ++i) {
      const SeqFeatureConfig& one = group.features(i);
      path_ = path + std::to_string(i) + "]";
      start.member_index = i;
      switch (one.feature_case()) {
        case SeqFeatureConfig::kIdFeature:
          Add(one.id_feature(), start);
          break;
        case SeqFeatureConfig::kRawFeature:
          Add(one.raw_feature(), start);
          break;
        default:
          Refuse(one, "id_feature, raw_feature");
      }
    }
  }

  /// `feature` says where `config` stands.
  template <typename Config>
  void Add(Config config, Feature feature) {
    if (config.feature_name().empty()) throw ConfigError(path_ + ": feature_name is missing");
    feature.name = (feature.sequence_name.empty() ? "" : feature.sequence_name + "__") + config.feature_name();
    if (config.stub_type()) {
      if (mode_ == tzrec::protos::FG_NORMAL) Fail(feature, "stub_type is not allowed in FG_NORMAL");
      return;  // only other features read it
    }
    ReadKind(AsItCounts(feature, std::move(config)), mode_, feature);
    features_.push_back(std::move(feature));
  }

  template <typename Message>
  [[noreturn]] void Refuse(const Message& one, const char* supported) const {
    const auto* field = Message::descriptor()->FindFieldByNumber(one.feature_case());
    if (field == nullptr) throw ConfigError(path_ + " holds no feature");
    throw ConfigError(path_ + ": " + field->name() + " is not supported yet (supported: " + supported + ")");
  }

  FgMode mode_;
  std::vector<Feature>& features_;
  std::string path_;  ///< of the entry, for messages about features that have no name
};

/// Features of one table name have to mean the same table. A sequence looks up another table than pooled ids do, but a
/// plain feature may ask for both, so that only `pooling`, which the elements of sequences do not know, may differ.
void CheckSharing(const std::vector<Feature>& features) {
  std::unordered_map<std::string, const Feature*> first_of, first_pooled_of;
  for (const Feature& feature : features) {
    if (!feature.sparse) continue;
    const auto differ = [&](const Feature& other, const char* what) {
      Fail(feature, "can not share embedding " + Quoted(feature.table) + " with feature " + other.name + ": " + what +
                        " differs");
    };
    const Feature& first = *first_of.try_emplace(feature.table, &feature).first->second;
    if (first.num_embeddings != feature.num_embeddings) differ(first, "the number of rows");
    if (first.embedding_dim != feature.embedding_dim) differ(first, "embedding_dim");
    if (first.init_fn != feature.init_fn) differ(first, "init_fn");
    if (feature.sequence) continue;
    const Feature& pooled = *first_pooled_of.try_emplace(feature.table, &feature).first->second;
    if (pooled.pooling != feature.pooling) differ(pooled, "pooling");
  }
}

}  // namespace

FeatureSet FeatureSet::FromConfig(const tzrec::protos::EasyRecConfig& config) {
  FeatureSet set;
  set.fg_mode_ = EffectiveFgMode(config.data_config());
  Reader reader(set.fg_mode_, set.all_);
  for (int i = 0; i < config.feature_configs_size(); ++i) reader.Read(config.feature_configs(i), i);
  CheckSharing(set.all_);

  for (Feature& feature : set.all_) {
    if (!set.by_name_.try_emplace(feature.name, &feature).second) Fail(feature, "is configured twice");
    for (const std::string& column : feature.inputs) {
      if (std::find(set.input_columns_.begin(), set.input_columns_.end(), column) == set.input_columns_.end()) {
        set.input_columns_.push_back(column);
      }
    }
    std::vector<const Feature*>& kind = feature.sparse     ? set.sparse_
                                        : feature.sequence ? set.dense_sequences_
                                                           : set.dense_;
    feature.index = static_cast<int>(kind.size());
    kind.push_back(&feature);
    if (!feature.sparse && !feature.sequence) {
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
