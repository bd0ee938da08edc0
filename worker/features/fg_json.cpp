#include "worker/features/fg_json.h"

#include <algorithm>

#include "worker/config/error.h"
#include "worker/features/feature_config.h"

namespace anneal::features {
namespace {

using Json = nlohmann::ordered_json;
using tzrec::protos::FeatureConfig;
using tzrec::protos::IdFeature;
using tzrec::protos::RawFeature;
using tzrec::protos::SeqFeatureConfig;
using tzrec::protos::SequenceFeature;

constexpr const char* kDefaultSeparator = "\x1d";

/// Unknown words get this row when the config does not say (parity/features.md 4.3).
constexpr uint64_t kReservedUnknownRow = 1;

/// Order of protobuf maps is not fixed; sorted words make the file reproducible.
Json SortedDict(const std::map<std::string, uint64_t>& words) {
  Json result = Json::object();
  for (const auto& [word, row] : words) result[word] = row;
  return result;
}

void AddBucketizer(const IdFeature& config, const FgJsonOptions& options, Json& entry) {
  const bool reserved = !config.has_default_bucketize_value();
  const uint64_t unknown = reserved ? kReservedUnknownRow : config.default_bucketize_value();
  if (config.has_zch() || config.has_dynamicemb()) {
    entry["hash_bucket_size"] = (uint64_t{1} << 63) - 1;
  } else if (config.has_hash_bucket_size()) {
    entry["hash_bucket_size"] = config.hash_bucket_size();
  } else if (config.vocab_list_size() > 0) {
    Json words = Json::array();
    if (reserved) words = {config.default_value(), "<OOV>"};
    for (const std::string& word : config.vocab_list()) words.push_back(word);
    entry["vocab_list"] = std::move(words);
    entry["default_bucketize_value"] = unknown;
  } else if (config.vocab_dict_size() > 0) {
    std::map<std::string, uint64_t> words(config.vocab_dict().begin(), config.vocab_dict().end());
    if (reserved && !config.default_value().empty()) words[config.default_value()] = 0;
    entry["vocab_dict"] = SortedDict(words);
    entry["default_bucketize_value"] = unknown;
  } else if (config.has_vocab_file()) {
    const std::string& directory = config.asset_dir();
    const std::string path = directory.empty() ? config.vocab_file() : directory + "/" + config.vocab_file();
    const auto asset = options.assets.find(path);
    entry["vocab_file"] = asset == options.assets.end() ? path : asset->second;
    entry["default_bucketize_value"] = unknown;
  } else if (config.has_num_buckets()) {
    entry["num_buckets"] = config.num_buckets();
  }
}

Json PlainEntry(const IdFeature& config, const FgJsonOptions& options) {
  Json entry = {{"feature_type", "id_feature"},
                {"feature_name", config.feature_name()},
                {"default_value", config.default_value()},
                {"expression", config.expression()},
                {"value_type", config.fg_value_type().empty() ? "string" : config.fg_value_type()},
                {"need_prefix", false}};
  if (config.separator() != kDefaultSeparator) entry["separator"] = config.separator();
  AddBucketizer(config, options, entry);
  if (config.weighted()) entry["weighted"] = true;
  entry["value_dim"] = config.value_dim();
  if (config.stub_type()) entry["stub_type"] = true;
  return entry;
}

Json PlainEntry(const RawFeature& config, const FgJsonOptions&) {
  Json entry = {{"feature_type", "raw_feature"},
                {"feature_name", config.feature_name()},
                {"default_value", config.default_value()},
                {"expression", config.expression()},
                {"value_type", "float"}};
  if (config.value_dim() > 1) {
    if (config.separator() != kDefaultSeparator) entry["separator"] = config.separator();
    entry["value_dim"] = config.value_dim();
  }
  if (!config.normalizer().empty()) entry["normalizer"] = config.normalizer();
  if (config.boundaries_size() > 0) {
    Json boundaries = Json::array();
    // As double, so that 0.9f is written 0.8999999761581421 like Python's json does.
    for (const float boundary : config.boundaries()) boundaries.push_back(static_cast<double>(boundary));
    entry["boundaries"] = std::move(boundaries);
  }
  if (config.stub_type()) entry["stub_type"] = true;
  return entry;
}

template <typename Config>
Json Entry(const Config& config, const FgJsonOptions& options) {
  Json entry = PlainEntry(config, options);
  if (options.remove_bucketizer) {
    for (const char* key :
         {"hash_bucket_size", "vocab_dict", "vocab_list", "vocab_file", "boundaries", "num_buckets"}) {
      entry.erase(key);
    }
  }
  return entry;
}

/// A sequence that stands alone.
template <typename Config>
Json SequenceEntry(const Config& config, const FgJsonOptions& options) {
  Json entry = Entry(InSequence(config), options);
  entry["feature_type"] = "sequence_" + entry["feature_type"].get<std::string>();
  entry["sequence_delim"] = config.sequence_delim();
  entry["sequence_length"] = config.sequence_length();
  return entry;
}

/// A feature of a sequence_feature.
template <typename Config>
Json MemberEntry(const Config& config, const FgJsonOptions& options) {
  Json entry = Entry(InSequence(config), options);
  if (config.sequence_fields_size() > 0) entry["sequence_fields"] = config.sequence_fields();
  return entry;
}

template <typename Message>
[[noreturn]] void Refuse(const Message& one, int index, const char* supported) {
  const auto* field = Message::descriptor()->FindFieldByNumber(one.feature_case());
  if (field == nullptr) throw ConfigError("fg.json: feature_configs[" + std::to_string(index) + "] holds no feature");
  throw ConfigError("fg.json: " + field->name() + " is not supported yet (supported: " + supported + ")");
}

Json GroupEntry(const SequenceFeature& group, int index, const FgJsonOptions& options) {
  Json features = Json::array();
  for (const SeqFeatureConfig& one : group.features()) {
    switch (one.feature_case()) {
      case SeqFeatureConfig::kIdFeature:
        features.push_back(MemberEntry(one.id_feature(), options));
        break;
      case SeqFeatureConfig::kRawFeature:
        features.push_back(MemberEntry(one.raw_feature(), options));
        break;
      default:
        Refuse(one, index, "id_feature, raw_feature");
    }
  }
  return {{"sequence_name", group.sequence_name()},
          {"sequence_length", group.sequence_length()},
          {"sequence_delim", group.sequence_delim()},
          {"sequence_pk", group.sequence_pk().empty() ? "user:" + group.sequence_name() : group.sequence_pk()},
          {"features", std::move(features)}};
}

Json EntryOf(const FeatureConfig& one, int index, const FgJsonOptions& options) {
  switch (one.feature_case()) {
    case FeatureConfig::kIdFeature:
      return Entry(one.id_feature(), options);
    case FeatureConfig::kRawFeature:
      return Entry(one.raw_feature(), options);
    case FeatureConfig::kSequenceIdFeature:
      return SequenceEntry(one.sequence_id_feature(), options);
    case FeatureConfig::kSequenceRawFeature:
      return SequenceEntry(one.sequence_raw_feature(), options);
    case FeatureConfig::kSequenceFeature:
      return GroupEntry(one.sequence_feature(), index, options);
    default:
      Refuse(one, index, "id_feature, raw_feature, sequence_feature, sequence_id_feature, sequence_raw_feature");
  }
}

}  // namespace

Json FgJson(const tzrec::protos::EasyRecConfig& config, const FgJsonOptions& options) {
  Json features = Json::array();
  for (int i = 0; i < config.feature_configs_size(); ++i) {
    features.push_back(EntryOf(config.feature_configs(i), i, options));
  }
  Json result = {{"features", std::move(features)}};
  if (!options.reserves.empty()) result["reserves"] = options.reserves;
  return result;
}

}  // namespace anneal::features
