#include "worker/features/feature_set.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "worker/config/error.h"
#include "worker/config/feature_rules.h"
#include "worker/config/source_map.h"
#include "worker/features/feature_config.h"
#include "worker/features/vocabulary.h"

namespace anneal::features {
namespace {

using config::FeatureEntry;
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

/// Sets the feature's sides from its expressions.
template <typename Config>
void ReadInputs(const Config& config, FgMode mode, Feature& feature) {
  const bool own = mode == tzrec::protos::FG_NONE || mode == tzrec::protos::FG_BUCKETIZE;
  std::vector<std::string> names;
  for (const config::FeatureInput& input : config::InputsOf(config)) {
    if (input.expression.empty() && own) continue;
    if (input.expression.empty()) Fail(feature, input.field + " is missing");
    const auto expression = config::ParseExpression(input.expression);
    if (!expression) {
      Fail(feature, input.field + " " + Quoted(input.expression) +
                        " is not \"side:name\" with a side of user, item, context, feature, const");
    }
    names.push_back(expression->name);
    feature.sides.push_back(config::ReadInput(config, feature.sequence, feature.sequence_name, *expression));
    if (mode == tzrec::protos::FG_DAG && expression->side == "const" && feature.sides.back().sequence) {
      Fail(feature,
           input.field + " " + Quoted(input.expression) + " gives a sequence a literal, which is not supported yet");
    }
  }
  for (const std::string& field : config.sequence_fields()) {
    if (!feature.sequence || std::find(names.begin(), names.end(), field) == names.end()) {
      Fail(feature, "sequence_fields other than the input of a sequence is not supported yet");
    }
  }
  if (feature.sides.empty() && !own) Fail(feature, "has no input");
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

/// Of what the feature's value is, for itself and for others.
void ReadValue(const IdFeature& config, Feature& feature) {
  feature.kind = Kind::kId;
  feature.value_dim = config.value_dim();  // absent: 0, all of them
  feature.weighted = config.weighted();
}

void ReadValue(const RawFeature& config, Feature& feature) {
  feature.kind = Kind::kRaw;
  feature.sparse = config.boundaries_size() > 0;
  feature.value_dim = config.value_dim();
  if (feature.value_dim == 0 && feature.type == "raw_feature") Fail(feature, "value_dim has to be above 0");
}

/// Of what becomes of the value.
void ReadEncoding(const IdFeature& config, Feature& feature) {
  ReadTable(config, feature);
  feature.num_embeddings = Rows(config, feature);
  // A quirk of the reference (parity/features.md 1).
  if (feature.type == "match_feature" && config.vocab_list_size() > 0) ++feature.num_embeddings;
}

void ReadDenseEmbedding(const RawFeature& config, Feature& feature) {
  const std::string kind = config.has_autodis() ? "autodis" : "mlp";
  if (feature.sparse) Fail(feature, kind + " and boundaries exclude each other");
  if (feature.sequence) Fail(feature, kind + " in a sequence");
  feature.embedding_dim = config.embedding_dim();
  if (feature.embedding_dim == 0) Fail(feature, kind + " needs an embedding_dim above 0");
  feature.dense_embedding.emplace();
  if (!config.has_autodis()) return;
  if (feature.value_dim > 1) Fail(feature, "autodis needs a value_dim of 1");
  const auto& autodis = config.autodis();
  if (autodis.num_channels() == 0) Fail(feature, "autodis.num_channels has to be above 0");
  if (!(autodis.temperature() > 0)) Fail(feature, "autodis.temperature has to be above 0");
  feature.dense_embedding = {DenseEmbedding::Kind::kAutoDis, autodis.num_channels(), autodis.keep_prob(),
                             autodis.temperature()};
}

void ReadEncoding(const RawFeature& config, Feature& feature) {
  if (config.dense_emb_case() != RawFeature::DENSE_EMB_NOT_SET) ReadDenseEmbedding(config, feature);
  if (!feature.sparse) return;
  if (!std::is_sorted(config.boundaries().begin(), config.boundaries().end())) {
    Fail(feature, "boundaries are not ascending");
  }
  ReadTable(config, feature);
  feature.num_embeddings = config.boundaries_size() + 1;
}

/// The feature that stands there.
template <typename Config>
Feature ReadFeature(const Config& config, const FeatureEntry& entry, FgMode mode) {
  if (config.feature_name().empty()) throw ConfigError(entry.path + ": feature_name is missing");
  Feature feature;
  feature.name = config::FullName(config.feature_name(), entry);
  feature.type = entry.kind;
  feature.config_index = entry.config_index;
  feature.member_index = entry.member_index;
  feature.sequence = entry.sequence;
  if (entry.group != nullptr) {
    feature.sequence_name = entry.group->sequence_name();
    feature.sequence_delim = entry.group->sequence_delim();
    feature.sequence_length = entry.group->sequence_length();
  } else if (entry.sequence) {
    feature.sequence_delim = config.sequence_delim();
    feature.sequence_length = config.sequence_length();
  }
  if (config.stub_type() && mode == tzrec::protos::FG_NORMAL) Fail(feature, "stub_type is not allowed in FG_NORMAL");
  ReadInputs(config, mode, feature);
  const auto read = [&](const auto& encoding) {
    ReadValue(encoding, feature);
    if (feature.sequence) CheckElements(encoding, feature);
    if (!config.stub_type()) ReadEncoding(encoding, feature);
  };
  std::visit(read, AsItCounts(feature, config::EncodingOf(config)));
  return feature;
}

void CheckGroups(const tzrec::protos::EasyRecConfig& config) {
  std::set<std::string> names;
  for (int i = 0; i < config.feature_configs_size(); ++i) {
    if (!config.feature_configs(i).has_sequence_feature()) continue;
    const auto& group = config.feature_configs(i).sequence_feature();
    const std::string path = config::Item("feature_configs", i);
    if (group.sequence_name().empty()) throw ConfigError(path + ": sequence_name is missing");
    if (!names.insert(group.sequence_name()).second) {
      throw ConfigError(path + ": sequence_name " + Quoted(group.sequence_name()) + " is used twice");
    }
    if (group.features_size() == 0) {
      throw ConfigError(path + ": the sequence " + Quoted(group.sequence_name()) + " has no features");
    }
  }
}

/// Follows `feature:` inputs to the columns that features are made of.
class InputResolver {
 public:
  InputResolver(FgMode mode, std::vector<Feature>& features, std::vector<Feature>& stubs) : mode_(mode) {
    for (Feature& feature : features) by_name_.emplace(feature.name, &feature);
    for (Feature& feature : stubs) by_name_.emplace(feature.name, &feature);
  }

  void Run() {
    if (mode_ == tzrec::protos::FG_DAG) CheckGraph();
    for (const auto& [name, feature] : by_name_) Resolve(*feature);
  }

 private:
  void CheckGraph() const {
    config::FeatureGraph graph;
    for (const auto& [name, feature] : by_name_) {
      for (const FeatureInput& input : feature->sides) {
        if (input.side != "feature") continue;
        if (!by_name_.count(input.name)) Fail(*feature, "there is no feature " + input.name + " for it to read");
        graph[name].push_back(input.name);
      }
    }
    for (const auto& [name, feature] : by_name_) {
      const std::string circle = config::Circle(graph, name);
      if (!circle.empty()) Fail(*feature, "is made of itself: " + circle);
    }
  }

  void Resolve(Feature& feature) {
    if (!resolved_.insert(feature.name).second) return;
    const bool own = mode_ == tzrec::protos::FG_NONE || mode_ == tzrec::protos::FG_BUCKETIZE;
    if (own) feature.inputs = {feature.name};
    bool user = !feature.sides.empty();
    for (const FeatureInput& input : feature.sides) {
      const bool other = mode_ == tzrec::protos::FG_DAG && input.side == "feature";
      if (other) {
        Feature& read = *by_name_.at(input.name);
        Resolve(read);
        for (const std::string& column : read.inputs) AddColumn(column, feature);
        user = user && read.of_user;
      } else {
        user = user && input.side == "user";
        if (!own && (mode_ != tzrec::protos::FG_DAG || input.side != "const")) AddColumn(input.name, feature);
      }
    }
    feature.of_user = user || !feature.sequence_name.empty();
  }

  static void AddColumn(const std::string& column, Feature& feature) {
    if (std::find(feature.inputs.begin(), feature.inputs.end(), column) == feature.inputs.end()) {
      feature.inputs.push_back(column);
    }
  }

  const FgMode mode_;
  std::map<std::string, Feature*> by_name_;
  std::set<std::string> resolved_;
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
  CheckGroups(config);
  for (const FeatureEntry& entry : config::FeatureEntries(config)) {
    if (entry.feature == nullptr) throw ConfigError(entry.path + " holds no feature");
    const bool known = config::VisitFeature(*entry.feature, [&](const auto& one) {
      (one.stub_type() ? set.stubs_ : set.all_).push_back(ReadFeature(one, entry, set.fg_mode_));
    });
    if (!known) {
      throw ConfigError(entry.path + " is not supported yet (supported: " + config::FeatureKindNames() +
                        ", alone, as a sequence and in a sequence_feature)");
    }
  }
  InputResolver(set.fg_mode_, set.all_, set.stubs_).Run();
  CheckSharing(set.all_);

  for (const Feature& stub : set.stubs_) {
    if (!set.stub_by_name_.emplace(stub.name, &stub).second) Fail(stub, "is configured twice");
  }
  for (Feature& feature : set.all_) {
    if (set.stub_by_name_.count(feature.name)) Fail(feature, "is configured twice");
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

const Feature* FeatureSet::FindAny(const std::string& name) const {
  const auto found = stub_by_name_.find(name);
  return found == stub_by_name_.end() ? Find(name) : found->second;
}

}  // namespace anneal::features
