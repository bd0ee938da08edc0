#include "worker/config/feature_kinds.h"

#include <algorithm>
#include <array>

#include "worker/config/source_map.h"

namespace anneal::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using namespace tzrec::protos;  // NOLINT: the schema

constexpr std::string_view kSequencePrefix = "sequence_";

/// The oneof member that is set; null when none is.
const FieldDescriptor* HeldField(const Message& entry) {
  return entry.GetReflection()->GetOneofFieldDescriptor(entry, entry.GetDescriptor()->FindOneofByName("feature"));
}

/// Adds what `holder` (an item of feature_configs or of a group's features) holds.
void AddEntry(const Message& holder, FeatureEntry entry, std::vector<FeatureEntry>& entries) {
  if (const FieldDescriptor* field = HeldField(holder)) {
    entry.feature = &holder.GetReflection()->GetMessage(holder, field);
    entry.kind = field->name();
    entry.path += "." + entry.kind;
    if (entry.kind.starts_with(kSequencePrefix)) {
      entry.sequence = true;
      entry.kind.erase(0, kSequencePrefix.size());
    }
  }
  entries.push_back(std::move(entry));
}

/// A list of expressions.
template <typename Kind>
std::vector<FeatureInput> Listed(const Kind& feature) {
  std::vector<FeatureInput> inputs;
  for (int i = 0; i < feature.expression_size(); ++i) inputs.push_back({Item("expression", i), feature.expression(i)});
  return inputs;
}

bool SameShape(const FieldDescriptor& a, const FieldDescriptor& b) {
  return a.cpp_type() == b.cpp_type() && a.is_repeated() == b.is_repeated() && a.is_map() == b.is_map() &&
         (a.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || a.is_map() || a.message_type() == b.message_type());
}

/// Sets every field of `to` that `from` has set under the same name and type.
void CopyShared(const Message& from, Message& to) {
  std::vector<const FieldDescriptor*> fields;
  from.GetReflection()->ListFields(from, &fields);
  for (const FieldDescriptor* field : fields) {
    const FieldDescriptor* target = to.GetDescriptor()->FindFieldByName(std::string(field->name()));
    if (target == nullptr || !SameShape(*field, *target)) continue;
    const auto *source = from.GetReflection(), *sink = to.GetReflection();
    if (field->is_repeated()) {
      for (int i = 0; i < source->FieldSize(from, field); ++i) {
        switch (field->cpp_type()) {
          case FieldDescriptor::CPPTYPE_STRING:
            sink->AddString(&to, target, source->GetRepeatedString(from, field, i));
            break;
          case FieldDescriptor::CPPTYPE_FLOAT:
            sink->AddFloat(&to, target, source->GetRepeatedFloat(from, field, i));
            break;
          default:  // vocab_dict: entries of its map differ in type, not in shape
            CopyShared(source->GetRepeatedMessage(from, field, i), *sink->AddMessage(&to, target));
        }
      }
      continue;
    }
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        sink->SetString(&to, target, source->GetString(from, field));
        break;
      case FieldDescriptor::CPPTYPE_BOOL:
        sink->SetBool(&to, target, source->GetBool(from, field));
        break;
      case FieldDescriptor::CPPTYPE_FLOAT:
        sink->SetFloat(&to, target, source->GetFloat(from, field));
        break;
      case FieldDescriptor::CPPTYPE_UINT32:
        sink->SetUInt32(&to, target, source->GetUInt32(from, field));
        break;
      case FieldDescriptor::CPPTYPE_UINT64:
        sink->SetUInt64(&to, target, source->GetUInt64(from, field));
        break;
      default:
        sink->MutableMessage(&to, target)->CopyFrom(source->GetMessage(from, field));
    }
  }
}

/// The feature as an id_feature or raw_feature: shared fields, and the kind's own default where none is set.
template <typename As, typename Kind>
As EncodedAs(const Kind& feature) {
  As encoding;
  CopyShared(feature, encoding);
  encoding.clear_expression();
  if constexpr (requires { feature.default_value(); }) {
    encoding.set_default_value(feature.default_value());
  } else {
    encoding.set_default_value("0");
  }
  return encoding;
}

/// Of a lookup or match: ids, or numbers.
template <typename Kind>
Encoding Found(const Kind& feature, uint32_t numbers) {
  if (HasIdBucketizer(feature)) {
    auto encoding = EncodedAs<IdFeature>(feature);
    encoding.set_value_dim(feature.has_value_dim() ? feature.value_dim() : 1);
    return encoding;
  }
  auto encoding = EncodedAs<RawFeature>(feature);
  encoding.set_value_dim(numbers);
  return encoding;
}

}  // namespace

std::string FeatureKindNames() {
  std::string names;
  const auto* oneof = SeqFeatureConfig::descriptor()->FindOneofByName("feature");
  for (int i = 0; i < oneof->field_count(); ++i) {
    const FieldDescriptor* field = oneof->field(i);
    const auto* prototype = google::protobuf::MessageFactory::generated_factory()->GetPrototype(field->message_type());
    if (VisitFeature(*prototype, [](const auto&) {})) names += (names.empty() ? "" : ", ") + std::string(field->name());
  }
  return names;
}

std::vector<FeatureEntry> FeatureEntries(const EasyRecConfig& config) {
  std::vector<FeatureEntry> entries;
  for (int i = 0; i < config.feature_configs_size(); ++i) {
    FeatureEntry entry;
    entry.config_index = i;
    entry.path = Item("feature_configs", i);
    if (!config.feature_configs(i).has_sequence_feature()) {
      AddEntry(config.feature_configs(i), entry, entries);
      continue;
    }
    entry.group = &config.feature_configs(i).sequence_feature();
    entry.sequence = true;
    const std::string members = entry.path + ".sequence_feature.features";
    for (int j = 0; j < entry.group->features_size(); ++j) {
      entry.member_index = j;
      entry.path = Item(members, j);
      AddEntry(entry.group->features(j), entry, entries);
    }
  }
  return entries;
}

const Message& FeatureAt(const EasyRecConfig& config, int config_index, int member_index) {
  const FeatureConfig& one = config.feature_configs(config_index);
  const Message* holder = &one;
  if (one.has_sequence_feature()) holder = &one.sequence_feature().features(member_index);
  return holder->GetReflection()->GetMessage(*holder, HeldField(*holder));
}

Message& FeatureAt(EasyRecConfig& config, int config_index, int member_index) {
  FeatureConfig& one = *config.mutable_feature_configs(config_index);
  Message* holder = &one;
  if (one.has_sequence_feature()) holder = one.mutable_sequence_feature()->mutable_features(member_index);
  return *holder->GetReflection()->MutableMessage(holder, HeldField(*holder));
}

std::vector<FeatureInput> InputsOf(const IdFeature& feature) { return {{"expression", feature.expression()}}; }
std::vector<FeatureInput> InputsOf(const RawFeature& feature) { return {{"expression", feature.expression()}}; }
std::vector<FeatureInput> InputsOf(const ComboFeature& feature) { return Listed(feature); }
std::vector<FeatureInput> InputsOf(const CombineFeature& feature) { return {{"expression", feature.expression()}}; }
std::vector<FeatureInput> InputsOf(const LookupFeature& feature) {
  return {{"map", feature.map()}, {"key", feature.key()}};
}
std::vector<FeatureInput> InputsOf(const MatchFeature& feature) {
  std::vector<FeatureInput> inputs = {{"nested_map", feature.nested_map()}};
  if (feature.pkey() != kAllKeys) inputs.push_back({"pkey", feature.pkey()});
  if (feature.skey() != kAllKeys) inputs.push_back({"skey", feature.skey()});
  return inputs;
}
std::vector<FeatureInput> InputsOf(const BoolMaskFeature& feature) { return Listed(feature); }
std::vector<FeatureInput> InputsOf(const ExprFeature& feature) {
  std::vector<FeatureInput> inputs;
  for (int i = 0; i < feature.variables_size(); ++i) inputs.push_back({Item("variables", i), feature.variables(i)});
  return inputs;
}
std::vector<FeatureInput> InputsOf(const OverlapFeature& feature) {
  return {{"query", feature.query()}, {"title", feature.title()}};
}
std::vector<FeatureInput> InputsOf(const KvDotProduct& feature) {
  return {{"query", feature.query()}, {"document", feature.document()}};
}

std::optional<Expression> ParseExpression(const std::string& text) {
  static const std::array<std::string, 5> kSides = {"user", "item", "context", "feature", "const"};
  const size_t colon = text.find(':');
  if (colon == std::string::npos || colon + 1 == text.size()) return std::nullopt;
  Expression expression{text.substr(0, colon), text.substr(colon + 1)};
  if (std::find(kSides.begin(), kSides.end(), expression.side) == kSides.end()) return std::nullopt;
  return expression;
}

Encoding EncodingOf(const IdFeature& feature) { return feature; }
Encoding EncodingOf(const RawFeature& feature) { return feature; }

Encoding EncodingOf(const ComboFeature& feature) { return EncodedAs<IdFeature>(feature); }

Encoding EncodingOf(const CombineFeature& feature) {
  if (feature.has_num_buckets()) {
    auto encoding = EncodedAs<IdFeature>(feature);
    encoding.set_value_dim(1);
    return encoding;
  }
  return EncodedAs<RawFeature>(feature);
}

Encoding EncodingOf(const LookupFeature& feature) {
  const uint32_t dim = feature.has_value_dim() ? feature.value_dim() : 1;
  Encoding encoding = Found(feature, feature.boundaries_size() > 0 ? dim : std::max(dim, 1u));
  // Vectors stand in the map as texts of their own.
  if (auto* raw = std::get_if<RawFeature>(&encoding); raw && dim > 1) raw->set_separator(feature.value_separator());
  return encoding;
}

Encoding EncodingOf(const MatchFeature& feature) { return Found(feature, 1); }

Encoding EncodingOf(const BoolMaskFeature& feature) { return EncodedAs<IdFeature>(feature); }

Encoding EncodingOf(const ExprFeature& feature) { return EncodedAs<RawFeature>(feature); }

Encoding EncodingOf(const OverlapFeature& feature) { return EncodedAs<RawFeature>(feature); }

Encoding EncodingOf(const KvDotProduct& feature) { return EncodedAs<RawFeature>(feature); }

std::vector<std::string> VariablesOf(const ExprFeature& feature) {
  std::vector<std::string> names;
  for (const std::string& variable : feature.variables()) {
    const auto expression = ParseExpression(variable);
    names.push_back(expression ? expression->name : "");
  }
  return names;
}

}  // namespace anneal::config
