#include "worker/config/feature_rules.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>

#include "worker/config/error.h"
#include "worker/config/sampler_settings.h"
#include "worker/config/source_map.h"
#include "worker/config/tree_sampler_settings.h"
#include "worker/features/formulas/expression.h"
#include "worker/features/formulas/normalizer.h"
#include "worker/features/formulas/overlap_method.h"
#include "worker/features/number_text.h"

namespace anneal::config {
namespace {

using namespace tzrec::protos;  // NOLINT: the schema

/// A feature of the graph, with where its inputs stand.
struct Node {
  std::string path;
  std::vector<std::pair<std::string, std::string>> features;  ///< field and name of each `feature:` input
  std::vector<std::string> columns;                           ///< that it reads itself
};

class Rules {
 public:
  Rules(const DataConfig& data, const Report& fail)
      : mode_(data.fg_mode()), generates_(mode_ == FG_NORMAL || mode_ == FG_DAG), data_(data), fail_(fail) {}

  template <typename Kind>
  void Feature(const Kind& feature, const FeatureEntry& entry) {
    const std::string& path = entry.path;
    if (feature.stub_type() && mode_ == FG_NORMAL) fail_(path + ".stub_type", "is not allowed in FG_NORMAL");
    Inputs(feature, entry);
    Own(feature, path);
    if (!generates_) return;
    if (feature.separator().empty()) fail_(path + ".separator", "must not be empty");
    if constexpr (requires { feature.normalizer(); }) {
      Judge(path + ".normalizer",
            [&] { features::Normalizer::FromText(feature.normalizer(), feature.feature_name()); });
    }
    if (feature.stub_type()) return;
    if constexpr (std::is_same_v<Kind, IdFeature> || std::is_same_v<Kind, RawFeature>) {
      Values(feature, path);  // is its own encoding, with a vocabulary that may be long
    } else {
      std::visit([&](const auto& encoding) { Values(encoding, path); }, EncodingOf(feature));
    }
  }

  /// Names of `feature:` inputs, and circles of them.
  void Graph() {
    if (mode_ != FG_DAG) return;
    FeatureGraph graph;
    std::vector<std::string> names;
    for (const auto& [name, node] : nodes_) {
      names.push_back(name);
      for (const auto& [field, other] : node.features) graph[name].push_back(other);
    }
    for (const auto& [name, node] : nodes_) {
      for (const auto& [field, other] : node.features) {
        if (!nodes_.count(other))
          fail_(node.path + "." + field, "there is no feature '" + other + "'" + DidYouMean(other, names));
      }
      if (const std::string circle = Circle(graph, name); !circle.empty())
        fail_(node.path, "feature '" + name + "' is made of itself: " + circle);
    }
  }

  /// A value for a sampled item is made of its attributes alone.
  void Sampled() {
    if (!generates_) return;
    if (const auto sampler = SamplerOf(data_)) Sampled(sampler->field, sampler->attr_fields);
    if (const auto sampler = TreeSamplerOf(data_)) Sampled(sampler->field, sampler->attr_fields);
  }

 private:
  void Sampled(const std::string& sampler, const std::vector<std::string>& attr_fields) {
    const std::set<std::string> attributes(attr_fields.begin(), attr_fields.end());
    for (const auto& [name, node] : nodes_) {
      std::set<std::string> columns, seen;
      Columns(name, seen, columns);
      std::string item, other;
      for (const std::string& column : columns) (attributes.count(column) ? item : other) = column;
      if (item.empty() || other.empty()) continue;
      fail_(node.path, "feature '" + name + "' is made of column '" + item + "' in " + sampler +
                           ".attr_fields and of column '" + other +
                           "', which is not: not supported yet with a sampler");
    }
  }

  template <typename Kind>
  void Inputs(const Kind& feature, const FeatureEntry& entry) {
    const std::vector<FeatureInput> inputs = InputsOf(feature);
    const std::string& path = entry.path;
    const std::string group = entry.group ? entry.group->sequence_name() : "";
    Node node{path, {}, {}};
    int sequences = 0;
    bool good = true;
    std::set<std::string> names;
    for (const FeatureInput& one : inputs) {
      const auto expression = ParseExpression(one.expression);
      if (one.expression.empty() ? generates_ : !expression) {
        fail_(path + "." + one.field,
              "'" + one.expression + "' is not <side>:<name> with a side of user, item, context, feature, const");
      }
      if (!expression) {
        good = false;
        continue;
      }
      names.insert(expression->name);
      const Input input = ReadInput(feature, entry.sequence, group, *expression);
      sequences += input.sequence;
      if (mode_ == FG_DAG && input.sequence && input.side == "const")
        fail_(path + "." + one.field, "'" + one.expression + "' is a literal as a sequence: not supported yet");
      if (mode_ == FG_DAG && input.side == "feature") {
        node.features.emplace_back(one.field, input.name);
      } else if (mode_ != FG_DAG || input.side != "const") {
        node.columns.push_back(input.name);
      }
    }
    for (int i = 0; i < feature.sequence_fields_size(); ++i) {
      if (entry.sequence && (names.count(feature.sequence_fields(i)) || !good)) continue;
      fail_(Item(path + ".sequence_fields", i),
            "'" + feature.sequence_fields(i) + "' is not the input of a sequence: not supported yet");
    }
    constexpr bool single = std::is_same_v<Kind, IdFeature> || std::is_same_v<Kind, RawFeature>;
    if (generates_ && entry.sequence && !single && good && !inputs.empty()) {
      constexpr bool all = std::is_same_v<Kind, BoolMaskFeature>;  // elements are masked
      if (sequences < (all ? static_cast<int>(inputs.size()) : 1)) {
        fail_(path, std::string(all ? "both" : "at least one") +
                        " of the sequence's inputs must be a sequence: name those that are in sequence_fields");
      }
    }
    if (!feature.feature_name().empty()) nodes_.emplace(FullName(feature.feature_name(), entry), std::move(node));
  }

  void Columns(const std::string& name, std::set<std::string>& seen, std::set<std::string>& columns) const {
    const auto found = nodes_.find(name);
    if (found == nodes_.end() || !seen.insert(name).second) return;
    columns.insert(found->second.columns.begin(), found->second.columns.end());
    for (const auto& [field, other] : found->second.features) Columns(other, seen, columns);
  }

  void Own(const IdFeature&, const std::string&) {}
  void Own(const RawFeature&, const std::string&) {}

  void Own(const ComboFeature& feature, const std::string& path) {
    if (generates_ && feature.expression_size() < 2) fail_(path, "expression has to name two inputs or more");
  }

  void Own(const BoolMaskFeature& feature, const std::string& path) {
    if (generates_ && feature.expression_size() != 2)
      fail_(path, "expression has to name two inputs, the values and their mask");
  }

  void Own(const CombineFeature& feature, const std::string& path) {
    Combiner(feature.combiner(), path);
    if (feature.has_num_buckets() && feature.boundaries_size() > 0)
      fail_(path, "only one of num_buckets and boundaries may be set");
  }

  void Own(const LookupFeature& feature, const std::string& path) {
    if (!feature.combiner().empty()) Combiner(feature.combiner(), path);
    Found(feature, path);
    if (feature.need_key() && !HasIdBucketizer(feature)) NeedsIds(path + ".need_key");
    if (feature.value_separator().empty()) fail_(path + ".value_separator", "must not be empty");
  }

  void Own(const MatchFeature& feature, const std::string& path) {
    Found(feature, path);
    if (feature.show_pkey() && !HasIdBucketizer(feature)) NeedsIds(path + ".show_pkey");
    if (feature.show_skey() && !HasIdBucketizer(feature)) NeedsIds(path + ".show_skey");
  }

  void Own(const ExprFeature& feature, const std::string& path) {
    if (feature.has_value_dim() && feature.value_dim() == 0 && feature.boundaries_size() == 0)
      fail_(path + ".value_dim", "must be at least 1 without boundaries");
    if (!generates_) return;
    const std::vector<std::string> names = VariablesOf(feature);
    Judge(path + ".expression", [&] { features::Expression(feature.expression(), names, ""); });
    if (names.empty()) fail_(path, "variables has to name an input");
    for (int i = 0; i < feature.variables_size(); ++i) {
      if (!names[i].empty() && std::find(names.begin(), names.begin() + i, names[i]) != names.begin() + i)
        fail_(path + "." + Item("variables", i), "the name '" + names[i] + "' is used twice");
      if (mode_ == FG_DAG && feature.variables(i).starts_with("const:"))
        fail_(path + "." + Item("variables", i),
              "'" + feature.variables(i) + "' has no name: write the number into the expression");
    }
  }

  void Own(const OverlapFeature& feature, const std::string& path) {
    if (generates_ && !features::OverlapMethod::FromName(feature.method()))
      fail_(path + ".method", "'" + feature.method() + "' is not one of " + features::OverlapMethod::Names());
  }

  void Own(const KvDotProduct&, const std::string&) {}

  /// What the encoding makes of constants: the default, and the literal that an id_feature or raw_feature reads.
  void Values(const IdFeature& encoding, const std::string& path) {
    const std::string& type = encoding.fg_value_type();
    if (encoding.has_hash_bucket_size() && !type.empty() && type != "string" && type != "int32" && type != "int64")
      fail_(path + ".fg_value_type", "'" + type + "' with hash_bucket_size: not supported yet (string, int32, int64)");
    if (encoding.has_num_buckets() && !encoding.weighted())
      Numbers<int64_t>(encoding, encoding.default_value(), path + ".default_value", "an integer", 0);
  }

  void Values(const RawFeature& encoding, const std::string& path) {
    const bool buckets = encoding.boundaries_size() > 0;
    const int64_t count = buckets && encoding.value_dim() < 2 ? 0 : encoding.value_dim();
    Numbers<float>(encoding, encoding.default_value(), path + ".default_value", "a number", count);
    const auto input = ParseExpression(encoding.expression());
    if (mode_ == FG_DAG && input && input->side == "const")
      Numbers<float>(encoding, input->name, path + ".expression", "a number", count);
  }

  /// `text`, unless empty, has to be numbers: one, or `count` of them (0: any number).
  template <typename Number, typename Encoding>
  void Numbers(const Encoding& encoding, const std::string& text, const std::string& at, const std::string& wanted,
               int64_t count) {
    if (text.empty() || encoding.separator().empty()) return;
    int64_t found = 0;
    bool good = true;
    features::SplitText(text, encoding.separator(), [&](std::string_view part) {
      Number number = 0;
      good = features::ParseNumber(part, &number);
      if (!good) fail_(at, "'" + std::string(part) + "' is not " + wanted);
      ++found;
      return good;
    });
    if (good && count > 0 && found != 1 && found != count)
      fail_(at, "has " + std::to_string(found) + " values where value_dim is " + std::to_string(count));
  }

  /// What compiling the text throws.
  template <typename Compile>
  void Judge(const std::string& at, Compile&& compile) {
    try {
      compile();
    } catch (const ConfigError& error) {
      fail_(at, error.what());
    }
  }

  template <typename Kind>
  void Found(const Kind& feature, const std::string& path) {
    if (HasIdBucketizer(feature)) {
      if (feature.boundaries_size() > 0)
        fail_(Item(path + ".boundaries", 0),
              "are for numbers, and another field of the feature makes ids of its values");
    } else if (IsDiscrete(feature)) {
      NeedsIds(path + (feature.need_discrete() ? ".need_discrete" : ".fg_value_type"));
    }
    if (IsDiscrete(feature) && !feature.normalizer().empty())
      fail_(path + ".normalizer", "is for numbers, and the feature makes ids of its values: not supported yet");
  }

  void NeedsIds(const std::string& at) {
    fail_(at, "needs one of hash_bucket_size, num_buckets, vocab_list, vocab_dict, vocab_file");
  }

  void Combiner(const std::string& text, const std::string& path) {
    static const std::vector<std::string> kKnown = {"sum", "mean", "avg", "min", "max", "count"};
    std::string lower = text;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
    if (std::find(kKnown.begin(), kKnown.end(), lower) != kKnown.end()) return;
    if (lower == "gap_min" || lower == "gap_max") return fail_(path + ".combiner", "'" + text + "': not supported yet");
    fail_(path + ".combiner",
          "'" + text + "' is not one of sum, mean, avg, min, max, count" + DidYouMean(text, kKnown));
  }

  const FgMode mode_;
  const bool generates_;  ///< feature generation makes values of columns
  const DataConfig& data_;
  const Report& fail_;
  std::map<std::string, Node> nodes_;
};

}  // namespace

void CheckFeatures(const std::vector<FeatureEntry>& entries, const DataConfig& data, const Report& fail) {
  Rules rules(data, fail);
  for (const FeatureEntry& entry : entries) {
    if (entry.feature) VisitFeature(*entry.feature, [&](const auto& feature) { rules.Feature(feature, entry); });
  }
  rules.Graph();
  rules.Sampled();
}

std::string FullName(const std::string& feature_name, const FeatureEntry& entry) {
  return entry.group ? entry.group->sequence_name() + "__" + feature_name : feature_name;
}

std::string Circle(const FeatureGraph& graph, const std::string& name) {
  std::set<std::string> seen;
  const std::function<std::optional<std::string>(const std::string&)> way_back =
      [&](const std::string& from) -> std::optional<std::string> {
    const auto found = graph.find(from);
    if (found == graph.end() || !seen.insert(from).second) return std::nullopt;
    for (const std::string& next : found->second) {
      if (next == name) return from + " -> " + name;
      if (const auto rest = way_back(next)) return from + " -> " + *rest;
    }
    return std::nullopt;
  };
  return way_back(name).value_or("");
}

}  // namespace anneal::config
