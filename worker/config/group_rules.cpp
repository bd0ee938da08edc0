#include "worker/config/group_rules.h"

#include <algorithm>
#include <set>
#include <vector>

#include "worker/config/source_map.h"

namespace anneal::config {
namespace {

using namespace tzrec::protos;  // NOLINT: the schema

/// The settings of the encoder that is set; null when none is.
const google::protobuf::Message* EncoderOf(const SeqEncoderConfig& config, std::string* name) {
  const auto* field = SeqEncoderConfig::descriptor()->FindFieldByNumber(config.seq_module_case());
  if (!field) return nullptr;
  *name = field->name();
  return &config.GetReflection()->GetMessage(config, field);
}

class Checker {
 public:
  Checker(const std::map<std::string, FeatureKind>& features, const Report& fail) : features_(features), fail_(fail) {
    for (const auto& [name, kind] : features) known_.push_back(name);
  }

  void Check(const FeatureGroupConfig& group, const std::string& path) {
    if (!groups_.insert(group.group_name()).second)
      fail_(path + ".group_name", "the name '" + group.group_name() + "' is used twice");
    const bool nests = group.group_type() == DEEP && group.sequence_groups_size() > 0;
    if (group.feature_names_size() == 0 && !nests)
      fail_(path, "group '" + group.group_name() + "' has no feature_names");
    switch (group.group_type()) {
      case DEEP:
        Features(group.feature_names(), path, [](const std::string& name, const FeatureKind& kind) {
          return kind.sequence ? "'" + name + "' is a sequence: sequence_groups and SEQUENCE groups take those" : "";
        });
        return Nested(group, path);
      case WIDE:
        Features(group.feature_names(), path, [](const std::string& name, const FeatureKind& kind) {
          return kind.sequence ? "the sequence '" + name + "' cannot be in a WIDE group"
                 : kind.sparse ? ""
                               : "the dense feature '" + name + "' cannot be in a WIDE group";
        });
        return NoneNested(group, path);
      case SEQUENCE:
      case JAGGED_SEQUENCE:
        SequenceGroup(group.group_name(), group.feature_names(), path);
        return NoneNested(group, path);
    }
  }

 private:
  /// `fault`: what is wrong with a feature of that kind, or nothing.
  template <typename Names, typename Fault>
  void Features(const Names& names, const std::string& path, Fault fault) {
    for (int i = 0; i < names.size(); ++i) {
      const std::string at = Item(path + ".feature_names", i);
      const auto found = features_.find(names.Get(i));
      if (found == features_.end()) {
        fail_(at, "there is no feature '" + names.Get(i) + "'" + DidYouMean(names.Get(i), known_));
      } else if (const std::string what = fault(names.Get(i), found->second); !what.empty()) {
        fail_(at, what);
      }
    }
  }

  template <typename Names>
  void SequenceGroup(const std::string& name, const Names& names, const std::string& path) {
    if (!sequence_groups_.insert(name).second)
      fail_(path + ".group_name", "there is another sequence group of the name '" + name + "'");
    bool sequence = false, unknown = false;
    for (const std::string& feature : names) {
      const auto found = features_.find(feature);
      unknown = unknown || found == features_.end();
      sequence = sequence || (found != features_.end() && found->second.sequence);
    }
    if (!sequence && !unknown) fail_(path, "sequence group '" + name + "' has no sequence feature");
    Features(names, path, [](const std::string& feature, const FeatureKind& kind) {
      return kind.embedded ? "'" + feature + "' has autodis or mlp, which sequence groups do not apply" : "";
    });
  }

  void NoneNested(const FeatureGroupConfig& group, const std::string& path) {
    const std::string what = "belong into a DEEP group, this one is " + FeatureGroupType_Name(group.group_type());
    if (group.sequence_groups_size() > 0) fail_(path + ".sequence_groups", what);
    if (group.sequence_encoders_size() > 0) fail_(path + ".sequence_encoders", what);
  }

  void Nested(const FeatureGroupConfig& group, const std::string& path) {
    std::vector<std::string> names;
    std::set<std::string> queries;  // the groups that have one
    for (int i = 0; i < group.sequence_groups_size(); ++i) {
      const auto& nested = group.sequence_groups(i);
      const std::string at = Item(path + ".sequence_groups", i);
      const bool inherits = nested.group_name().empty() && group.sequence_groups_size() == 1;
      names.push_back(inherits ? group.group_name() : nested.group_name());
      if (names.back().empty()) fail_(at, "each of several sequence_groups needs a group_name");
      SequenceGroup(names.back(), nested.feature_names(), at);
      if (HasQuery(nested.feature_names())) queries.insert(names.back());
    }
    std::set<std::string> read;
    for (int i = 0; i < group.sequence_encoders_size(); ++i) {
      const std::string at = Item(path + ".sequence_encoders", i);
      std::string name;
      const auto* encoder = EncoderOf(group.sequence_encoders(i), &name);
      if (encoder) {
        const std::string input = Encoder(*encoder, names, at + "." + name, read);
        Settings(group.sequence_encoders(i), queries.count(input) > 0, input, at + "." + name);
      } else {
        fail_(at, "no encoder is set");
      }
    }
    for (size_t i = 0; i < names.size(); ++i) {
      if (!read.count(names[i]))
        fail_(Item(path + ".sequence_groups", static_cast<int>(i)),
              "no sequence encoder reads sequence group '" + names[i] + "'");
    }
  }

  /// Returns the name of the group that it reads.
  std::string Encoder(const google::protobuf::Message& encoder, const std::vector<std::string>& groups,
                      const std::string& path, std::set<std::string>& read) {
    const auto* fields = encoder.GetDescriptor();
    const auto* reflection = encoder.GetReflection();
    std::string name = reflection->GetString(encoder, fields->FindFieldByName("input"));
    if (name.empty() && groups.size() == 1) name = groups.front();
    if (std::find(groups.begin(), groups.end(), name) == groups.end()) {
      fail_(path + ".input", "this group has no sequence group '" + name + "'" + DidYouMean(name, groups));
    }
    read.insert(name);
    if (const auto* mlp = fields->FindFieldByName("attn_mlp"))
      CheckMlp(static_cast<const MLP&>(reflection->GetMessage(encoder, mlp)), path + ".attn_mlp", fail_);
    const auto* length = fields->FindFieldByName("max_seq_length");
    if (length && reflection->GetInt32(encoder, length) < 0) fail_(path + ".max_seq_length", "must not be negative");
    return name;
  }

  void Settings(const SeqEncoderConfig& config, bool query, const std::string& input, const std::string& path) {
    const bool needs =
        config.has_din_encoder() || config.has_simple_attention() || config.has_multi_window_din_encoder();
    if (needs && !query) fail_(path, "sequence group '" + input + "' has no query: a feature that is no sequence");
    const std::string& pooling = config.pooling_encoder().pooling_type();
    if (pooling != "mean" && pooling != "sum") fail_(path + ".pooling_type", "'" + pooling + "' is not sum or mean");
    const auto& windows = config.multi_window_din_encoder().windows_len();
    if (config.has_multi_window_din_encoder() && windows.empty()) fail_(path, "windows_len is empty");
    if (std::find(windows.begin(), windows.end(), 0u) != windows.end())
      fail_(path + ".windows_len", "must be at least 1");
    const auto& attention = config.self_attention_encoder();
    if (!(attention.dropout() >= 0 && attention.dropout() < 1))
      fail_(path + ".dropout", "must be at least 0 and less than 1");
    if (attention.num_heads() < 1) {
      fail_(path + ".num_heads", "must be at least 1");
    } else if (attention.multihead_attn_dim() < 1 || attention.multihead_attn_dim() % attention.num_heads() != 0) {
      fail_(path + ".multihead_attn_dim", std::to_string(attention.multihead_attn_dim()) +
                                              " is no multiple of num_heads, " + std::to_string(attention.num_heads()));
    }
  }

  template <typename Names>
  bool HasQuery(const Names& names) const {
    return std::any_of(names.begin(), names.end(), [this](const std::string& name) {
      const auto found = features_.find(name);
      return found == features_.end() || !found->second.sequence;  // one that is not known has its own fault
    });
  }

  const std::map<std::string, FeatureKind>& features_;
  const Report& fail_;
  std::vector<std::string> known_;
  std::set<std::string> groups_, sequence_groups_;
};

}  // namespace

void CheckGroups(const ModelConfig& model, const std::map<std::string, FeatureKind>& features, const Report& fail) {
  Checker checker(features, fail);
  for (int g = 0; g < model.feature_groups_size(); ++g)
    checker.Check(model.feature_groups(g), Item("model_config.feature_groups", g));
}

}  // namespace anneal::config
