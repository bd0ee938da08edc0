#include "worker/features/fg_json.h"

#include <algorithm>
#include <cctype>

#include "worker/config/error.h"
#include "worker/config/feature_kinds.h"
#include "worker/config/source_map.h"
#include "worker/features/feature_config.h"
#include "worker/features/vocabulary.h"

namespace anneal::features {
namespace {

using Json = nlohmann::ordered_json;
using config::FeatureEntry;
using tzrec::protos::BoolMaskFeature;
using tzrec::protos::CombineFeature;
using tzrec::protos::ComboFeature;
using tzrec::protos::ExprFeature;
using tzrec::protos::IdFeature;
using tzrec::protos::KvDotProduct;
using tzrec::protos::LookupFeature;
using tzrec::protos::MatchFeature;
using tzrec::protos::OverlapFeature;
using tzrec::protos::RawFeature;
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

/// hash_bucket_size, a vocabulary or num_buckets, of any kind that has these.
template <typename Config>
void AddIdBucketizer(const Config& config, const FgJsonOptions& options, Json& entry) {
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
    const std::string path = VocabPath(config);
    const auto asset = options.assets.find(path);
    entry["vocab_file"] = asset == options.assets.end() ? path : asset->second;
    entry["default_bucketize_value"] = unknown;
  } else if constexpr (requires { config.num_buckets(); }) {
    if (config.has_num_buckets()) entry["num_buckets"] = config.num_buckets();
  }
}

template <typename Config>
void AddBoundaries(const Config& config, Json& entry) {
  if (config.boundaries_size() == 0) return;
  Json boundaries = Json::array();
  // As double, so that 0.9f is written 0.8999999761581421 like Python's json does.
  for (const float boundary : config.boundaries()) boundaries.push_back(static_cast<double>(boundary));
  entry["boundaries"] = std::move(boundaries);
}

template <typename Config>
void AddSeparator(const Config& config, Json& entry) {
  if (config.separator() != kDefaultSeparator) entry["separator"] = config.separator();
}

template <typename Config>
void AddNormalizer(const Config& config, Json& entry) {
  if (!config.normalizer().empty()) entry["normalizer"] = config.normalizer();
}

template <typename Config>
void AddStub(const Config& config, Json& entry) {
  if (config.stub_type()) entry["stub_type"] = true;
}

std::string LowerCase(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

/// `text`, or what stands for it where it is empty.
std::string Or(const std::string& text, const char* otherwise) { return text.empty() ? otherwise : text; }

/// The entries of a feature, most often one, without what is only of sequences.
using Entries = std::vector<Json>;

Entries PlainEntries(const IdFeature& config, const FgJsonOptions& options) {
  Json entry = {{"feature_type", "id_feature"},
                {"feature_name", config.feature_name()},
                {"default_value", config.default_value()},
                {"expression", config.expression()},
                {"value_type", Or(config.fg_value_type(), "string")},
                {"need_prefix", false}};
  AddSeparator(config, entry);
  AddIdBucketizer(config, options, entry);
  if (config.weighted()) entry["weighted"] = true;
  entry["value_dim"] = config.value_dim();
  AddStub(config, entry);
  return {std::move(entry)};
}

Entries PlainEntries(const RawFeature& config, const FgJsonOptions&) {
  Json entry = {{"feature_type", "raw_feature"},
                {"feature_name", config.feature_name()},
                {"default_value", config.default_value()},
                {"expression", config.expression()},
                {"value_type", "float"}};
  if (config.value_dim() > 1) {
    AddSeparator(config, entry);
    entry["value_dim"] = config.value_dim();
  }
  AddNormalizer(config, entry);
  AddBoundaries(config, entry);
  AddStub(config, entry);
  return {std::move(entry)};
}

Entries PlainEntries(const ComboFeature& config, const FgJsonOptions& options) {
  Json entry = {{"feature_type", "combo_feature"},
                {"feature_name", config.feature_name()},
                {"default_value", config.default_value()},
                {"expression", config.expression()},
                {"value_type", "string"},
                {"need_prefix", false}};
  AddSeparator(config, entry);
  AddIdBucketizer(config, options, entry);
  entry["value_dim"] = config.value_dim();
  AddStub(config, entry);
  return {std::move(entry)};
}

Entries PlainEntries(const CombineFeature& config, const FgJsonOptions&) {
  Json entry = {{"feature_type", "combine_feature"},
                {"feature_name", config.feature_name()},
                {"default_value", config.default_value()},
                {"expression", config.expression()},
                {"value_type", config.has_num_buckets() ? "int64" : "float"},
                {"need_prefix", false},
                {"combiner", LowerCase(config.combiner())}};
  AddSeparator(config, entry);
  AddNormalizer(config, entry);
  if (config.value_map_size() > 0) {
    Json map = Json::object();
    const std::map<std::string, float> sorted(config.value_map().begin(), config.value_map().end());
    for (const auto& [word, number] : sorted) map[word] = static_cast<double>(number);
    entry["value_map"] = std::move(map);
  }
  if (config.has_num_buckets()) {
    entry["num_buckets"] = config.num_buckets();
  } else {
    AddBoundaries(config, entry);
  }
  if (config.has_num_buckets() || config.boundaries_size() > 0) entry["value_dim"] = 1;
  AddStub(config, entry);
  return {std::move(entry)};
}

/// What entries of a lookup_feature begin with.
Json LookupHead(const LookupFeature& config, const std::string& name, const std::string& default_value, bool discrete) {
  return {{"feature_type", "lookup_feature"},
          {"feature_name", name},
          {"map", config.map()},
          {"key", config.key()},
          {"default_value", default_value},
          {"value_type", discrete ? Or(config.fg_value_type(), "string") : "float"},
          {"needDiscrete", discrete},
          {"needKey", config.need_key()}};
}

/// A lookup of vectors is two: of their text, and a raw_feature that reads it (parity/features.md 4.10).
Entries VectorLookup(const LookupFeature& config) {
  const std::string hidden = config.feature_name() + "__lookup";
  std::string default_value = config.default_value();
  for (uint32_t i = 1; i < config.value_dim(); ++i) default_value += config.value_separator() + config.default_value();
  Json lookup = LookupHead(config, hidden, default_value, true);
  lookup["combiner"] = "";
  AddSeparator(config, lookup);
  lookup["value_dim"] = 1;
  lookup["stub_type"] = true;
  Json raw = {{"feature_type", "raw_feature"},
              {"feature_name", config.feature_name()},
              {"default_value", config.default_value()},
              {"expression", "feature:" + hidden},
              {"value_type", "float"},
              {"separator", config.value_separator()},
              {"value_dim", config.value_dim()}};
  AddNormalizer(config, raw);
  AddBoundaries(config, raw);
  AddStub(config, raw);
  return {std::move(lookup), std::move(raw)};
}

Entries PlainEntries(const LookupFeature& config, const FgJsonOptions& options) {
  const bool discrete = config::IsDiscrete(config);
  if (!discrete && config.value_dim() > 1) return VectorLookup(config);
  Json entry = LookupHead(config, config.feature_name(), config.default_value(), discrete);
  entry["combiner"] = discrete ? "" : LowerCase(config.combiner());
  AddSeparator(config, entry);
  AddNormalizer(config, entry);
  AddIdBucketizer(config, options, entry);
  AddBoundaries(config, entry);
  if (entry["combiner"] == "") entry["value_dim"] = config.has_value_dim() ? config.value_dim() : 1;
  AddStub(config, entry);
  return {std::move(entry)};
}

Entries PlainEntries(const MatchFeature& config, const FgJsonOptions& options) {
  const bool discrete = config::IsDiscrete(config);
  const bool all = config.pkey() == config::kAllKeys || config.skey() == config::kAllKeys;
  Json entry = {{"feature_type", "match_feature"},
                {"feature_name", config.feature_name()},
                {"user", config.nested_map()},
                {"category", config.pkey()},
                {"item", config.skey()},
                {"matchType", all ? "multihit" : "hit"},
                {"default_value", config.default_value()},
                {"value_type", discrete ? Or(config.fg_value_type(), "string") : "float"},
                {"needDiscrete", discrete},
                {"show_category", config.show_pkey()},
                {"show_item", config.show_skey()}};
  AddSeparator(config, entry);
  AddNormalizer(config, entry);
  AddIdBucketizer(config, options, entry);
  AddBoundaries(config, entry);
  if (discrete) entry["value_dim"] = config.has_value_dim() ? config.value_dim() : 1;
  AddStub(config, entry);
  return {std::move(entry)};
}

Entries PlainEntries(const BoolMaskFeature& config, const FgJsonOptions& options) {
  Json entry = {{"feature_type", "bool_mask_feature"},
                {"feature_name", config.feature_name()},
                {"expression", config.expression()},
                {"default_value", config.default_value()}};
  AddSeparator(config, entry);
  AddIdBucketizer(config, options, entry);
  entry["value_dim"] = config.value_dim();
  if (!config.fg_value_type().empty()) entry["value_type"] = config.fg_value_type();
  AddStub(config, entry);
  return {std::move(entry)};
}

Entries PlainEntries(const ExprFeature& config, const FgJsonOptions&) {
  Json entry = {{"feature_type", "expr_feature"},          {"feature_name", config.feature_name()},
                {"expression", config.expression()},       {"variables", config.variables()},
                {"default_value", config.default_value()}, {"value_type", "float"}};
  AddSeparator(config, entry);
  if (config.has_fill_missing()) entry["fill_missing"] = static_cast<double>(config.fill_missing());
  AddBoundaries(config, entry);
  if (config.has_value_dim()) entry["value_dim"] = config.value_dim();
  AddStub(config, entry);
  return {std::move(entry)};
}

Entries PlainEntries(const OverlapFeature& config, const FgJsonOptions&) {
  Json entry = {{"feature_type", "overlap_feature"}, {"feature_name", config.feature_name()},
                {"query", config.query()},           {"title", config.title()},
                {"method", config.method()},         {"value_type", "float"},
                {"separator", config.separator()}};
  AddNormalizer(config, entry);
  AddBoundaries(config, entry);
  AddStub(config, entry);
  return {std::move(entry)};
}

Entries PlainEntries(const KvDotProduct& config, const FgJsonOptions&) {
  Json entry = {{"feature_type", "kv_dot_product"},
                {"feature_name", config.feature_name()},
                {"query", config.query()},
                {"document", config.document()},
                {"default_value", config.default_value()}};
  AddSeparator(config, entry);
  AddBoundaries(config, entry);
  AddStub(config, entry);
  return {std::move(entry)};
}

/// `config` as its entry counts in a sequence.
template <typename Config>
Config AsSequence(Config config) {
  if constexpr (requires { InSequence(config); }) {
    return InSequence(std::move(config));
  } else {
    if constexpr (requires { config.default_value(); }) {
      if (config.default_value().empty()) config.set_default_value("0");
    }
    return config;
  }
}

/// The entries of the feature that stands there.
template <typename Config>
Entries EntriesOf(const Config& config, const FeatureEntry& place, const FgJsonOptions& options) {
  Entries entries = PlainEntries(place.sequence ? AsSequence(config) : config, options);
  for (Json& entry : entries) {
    if (place.sequence && !entry.contains("default_value")) entry["default_value"] = "0";
    if (options.remove_bucketizer) {
      for (const char* key :
           {"hash_bucket_size", "vocab_dict", "vocab_list", "vocab_file", "boundaries", "num_buckets"}) {
        entry.erase(key);
      }
    }
    if (place.group != nullptr) {
      if (config.sequence_fields_size() > 0) entry["sequence_fields"] = config.sequence_fields();
    } else if (place.sequence) {
      const std::string type = entry["feature_type"];
      entry["feature_type"] = type == "bool_mask_feature" ? type : "sequence_" + type;
      entry["sequence_delim"] = config.sequence_delim();
      entry["sequence_length"] = config.sequence_length();
    }
  }
  return entries;
}

Json GroupEntry(const SequenceFeature& group) {
  return {{"sequence_name", group.sequence_name()},
          {"sequence_length", group.sequence_length()},
          {"sequence_delim", group.sequence_delim()},
          {"sequence_pk", group.sequence_pk().empty() ? "user:" + group.sequence_name() : group.sequence_pk()},
          {"features", Json::array()}};
}

}  // namespace

Json FgJson(const tzrec::protos::EasyRecConfig& config, const FgJsonOptions& options) {
  Json features = Json::array();
  const SequenceFeature* group = nullptr;
  for (const FeatureEntry& place : config::FeatureEntries(config)) {
    if (place.feature == nullptr) throw ConfigError("fg.json: " + place.path + " holds no feature");
    if (place.group != nullptr && place.group != group) features.push_back(GroupEntry(*place.group));
    group = place.group;
    Json& list = group != nullptr ? features.back()["features"] : features;
    const bool known = config::VisitFeature(*place.feature, [&](const auto& feature) {
      for (Json& entry : EntriesOf(feature, place, options)) list.push_back(std::move(entry));
    });
    if (!known) {
      throw ConfigError("fg.json: " + place.path + " is not supported yet (supported: " + config::FeatureKindNames() +
                        ")");
    }
  }
  Json result = {{"features", std::move(features)}};
  if (!options.reserves.empty()) result["reserves"] = options.reserves;
  return result;
}

}  // namespace anneal::features
