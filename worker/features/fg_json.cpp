#include "worker/features/fg_json.h"

#include <algorithm>

#include "worker/config/error.h"

namespace anneal::features {
namespace {

using Json = nlohmann::ordered_json;
using tzrec::protos::FeatureConfig;
using tzrec::protos::IdFeature;
using tzrec::protos::RawFeature;

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

Json IdEntry(const IdFeature& config, const FgJsonOptions& options) {
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

Json RawEntry(const RawFeature& config) {
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

}  // namespace

Json FgJson(const tzrec::protos::EasyRecConfig& config, const FgJsonOptions& options) {
  Json features = Json::array();
  for (const FeatureConfig& one : config.feature_configs()) {
    switch (one.feature_case()) {
      case FeatureConfig::kIdFeature:
        features.push_back(IdEntry(one.id_feature(), options));
        break;
      case FeatureConfig::kRawFeature:
        features.push_back(RawEntry(one.raw_feature()));
        break;
      case FeatureConfig::FEATURE_NOT_SET:
        throw ConfigError("fg.json: feature_configs[" + std::to_string(features.size()) + "] holds no feature");
      default:
        throw ConfigError("fg.json: " + FeatureConfig::descriptor()->FindFieldByNumber(one.feature_case())->name() +
                          " is not supported yet (supported: id_feature, raw_feature)");
    }
    if (options.remove_bucketizer) {
      for (const char* key :
           {"hash_bucket_size", "vocab_dict", "vocab_list", "vocab_file", "boundaries", "num_buckets"}) {
        features.back().erase(key);
      }
    }
  }
  Json result = {{"features", std::move(features)}};
  if (!options.reserves.empty()) result["reserves"] = options.reserves;
  return result;
}

}  // namespace anneal::features
