// The kinds of features of the schema as data: where each stands, what it reads, and as which id_feature or raw_feature
// its value is encoded (parity/features.md 1). The rules of pipeline.config and worker/features both read kinds here.
#pragma once

#include <google/protobuf/message.h>

#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "tzrec/pipeline.pb.h"

namespace anneal::config {

template <typename... Kinds>
struct KindList {};

/// Every kind that can be read. A new kind stands here, has its InputsOf and EncodingOf below, and its line in
/// supported.cpp.
using FeatureKinds = KindList<tzrec::protos::IdFeature, tzrec::protos::RawFeature, tzrec::protos::ComboFeature,
                              tzrec::protos::CombineFeature, tzrec::protos::LookupFeature, tzrec::protos::MatchFeature,
                              tzrec::protos::BoolMaskFeature, tzrec::protos::ExprFeature, tzrec::protos::OverlapFeature,
                              tzrec::protos::KvDotProduct>;

/// Calls visit(feature) with the message as the kind that it is; false when it is none of FeatureKinds.
template <typename Message, typename Visit>
bool VisitFeature(Message& feature, Visit&& visit) {
  const auto as = [&]<typename Kind>(std::type_identity<Kind>) {
    using Wanted = std::conditional_t<std::is_const_v<Message>, const Kind, Kind>;
    Wanted* wanted = dynamic_cast<Wanted*>(&feature);
    if (wanted != nullptr) visit(*wanted);
    return wanted != nullptr;
  };
  return
      [&]<typename... Kinds>(KindList<Kinds...>) { return (as(std::type_identity<Kinds>()) || ...); }(FeatureKinds());
}

/// The kinds' names, "id_feature, raw_feature, ...", for messages.
std::string FeatureKindNames();

/// A feature where it stands.
struct FeatureEntry {
  const google::protobuf::Message* feature = nullptr;     ///< null: the entry holds none
  std::string kind;                                       ///< "combo_feature", of a sequence_combo_feature too
  const tzrec::protos::SequenceFeature* group = nullptr;  ///< that it belongs to
  bool sequence = false;                                  ///< of a group, or "sequence_" before its kind
  int config_index = 0, member_index = 0;                 ///< in feature_configs, in the group's features
  std::string path;  ///< feature_configs[2].combo_feature; of an empty entry feature_configs[2]
};

/// All features of the config, those of groups in their place. Groups without features leave nothing.
std::vector<FeatureEntry> FeatureEntries(const tzrec::protos::EasyRecConfig& config);

/// The feature that stands there; `member_index` counts in a group only.
const google::protobuf::Message& FeatureAt(const tzrec::protos::EasyRecConfig& config, int config_index,
                                           int member_index);
google::protobuf::Message& FeatureAt(tzrec::protos::EasyRecConfig& config, int config_index, int member_index);

/// One input as the config names it.
struct FeatureInput {
  std::string field;       ///< of the message: "expression", "expression[1]", "map"
  std::string expression;  ///< "<side>:<name>"
};

std::vector<FeatureInput> InputsOf(const tzrec::protos::IdFeature& feature);
std::vector<FeatureInput> InputsOf(const tzrec::protos::RawFeature& feature);
std::vector<FeatureInput> InputsOf(const tzrec::protos::ComboFeature& feature);
std::vector<FeatureInput> InputsOf(const tzrec::protos::CombineFeature& feature);
std::vector<FeatureInput> InputsOf(const tzrec::protos::LookupFeature& feature);    ///< map, key
std::vector<FeatureInput> InputsOf(const tzrec::protos::MatchFeature& feature);     ///< without keys that are ALL
std::vector<FeatureInput> InputsOf(const tzrec::protos::BoolMaskFeature& feature);  ///< values, mask
std::vector<FeatureInput> InputsOf(const tzrec::protos::ExprFeature& feature);      ///< variables
std::vector<FeatureInput> InputsOf(const tzrec::protos::OverlapFeature& feature);   ///< query, title
std::vector<FeatureInput> InputsOf(const tzrec::protos::KvDotProduct& feature);     ///< query, document

struct Expression {
  std::string side;  ///< user | item | context | feature | const
  std::string name;
};
/// Nothing for a text that is no "<side>:<name>".
std::optional<Expression> ParseExpression(const std::string& text);

/// Kinds of one input, of whose sequences that input is one; of the others only the item's side is (parity/features.md
/// 2). `sequence_fields` says otherwise.
template <typename Kind>
constexpr bool kOneInput =
    std::is_same_v<Kind, tzrec::protos::IdFeature> || std::is_same_v<Kind, tzrec::protos::RawFeature> ||
    std::is_same_v<Kind, tzrec::protos::CombineFeature>;

/// Whether that input of a sequence is a sequence itself.
template <typename Kind>
bool IsSequenceInput(const Kind& feature, const Expression& input) {
  if (feature.sequence_fields_size() == 0) return kOneInput<Kind> ? input.side != "feature" : input.side == "item";
  for (const std::string& field : feature.sequence_fields()) {
    if (field == input.name) return true;
  }
  return false;
}

/// An input as it is read.
struct Input {
  std::string side;
  std::string name;       ///< of a column or feature, "<sequence_name>__" before a sequence's of a group; a literal
  bool sequence = false;  ///< a row holds an element for each of the feature's
};

/// `group` is the sequence_name of the feature's group, empty outside one.
template <typename Kind>
Input ReadInput(const Kind& feature, bool sequence, const std::string& group, const Expression& expression) {
  Input input{expression.side, expression.name, sequence && IsSequenceInput(feature, expression)};
  if (input.sequence && !group.empty()) input.name = group + "__" + input.name;
  return input;
}

/// What turns the value of a feature into ids or numbers. Fields that it shares with the feature's kind are the
/// feature's; names and inputs are left to whoever knows them.
using Encoding = std::variant<tzrec::protos::IdFeature, tzrec::protos::RawFeature>;

Encoding EncodingOf(const tzrec::protos::IdFeature& feature);
Encoding EncodingOf(const tzrec::protos::RawFeature& feature);
Encoding EncodingOf(const tzrec::protos::ComboFeature& feature);
Encoding EncodingOf(const tzrec::protos::CombineFeature& feature);
Encoding EncodingOf(const tzrec::protos::LookupFeature& feature);
Encoding EncodingOf(const tzrec::protos::MatchFeature& feature);
Encoding EncodingOf(const tzrec::protos::BoolMaskFeature& feature);
Encoding EncodingOf(const tzrec::protos::ExprFeature& feature);
Encoding EncodingOf(const tzrec::protos::OverlapFeature& feature);
Encoding EncodingOf(const tzrec::protos::KvDotProduct& feature);

/// Whether a bucketiser makes rows of a table of texts or integers, by hash_bucket_size, num_buckets or a vocabulary.
template <typename Kind>
bool HasIdBucketizer(const Kind& feature) {
  return feature.has_zch() || feature.has_dynamicemb() || feature.has_hash_bucket_size() || feature.has_num_buckets() ||
         feature.vocab_list_size() > 0 || feature.vocab_dict_size() > 0 || feature.has_vocab_file();
}

/// Whether a lookup or match gives ids, the values as they stand in the map, and not numbers (parity/features.md 4.10).
template <typename Kind>
bool IsDiscrete(const Kind& feature) {
  return feature.need_discrete() || HasIdBucketizer(feature) || feature.fg_value_type() == "string";
}

/// The names that the expression of an expr_feature has for its inputs.
std::vector<std::string> VariablesOf(const tzrec::protos::ExprFeature& feature);

/// Rows of a table, numbers of a value or of an embedding: more is a mistake.
inline constexpr int64_t kMostRows = 1'000'000'000'000, kMostWidth = 1 << 20;

/// Of a match_feature's pkey and skey: every key of the map.
inline constexpr const char* kAllKeys = "ALL";

}  // namespace anneal::config
