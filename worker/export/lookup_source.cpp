#include "worker/export/lookup_source.h"

#include <algorithm>
#include <sstream>

namespace anneal::exporting {
namespace {

/// TorchScript for a tensor by its dotted name. getattr, because names may be numbers.
std::string Attribute(const std::string& name) {
  std::string text = "self";
  std::istringstream in(name);
  for (std::string part; std::getline(in, part, '.');) text = "getattr(" + text + ", " + Quote(part) + ")";
  return text;
}

/// The sum over a bag's rows; `ids` are inside the table. Half-precision rows are summed as float32, as fbgemm does;
/// mean pooling is a division afterwards, because the quantised operators ignore their mode.
const char* BagSum(TableType type) {
  switch (type) {
    case TableType::kFp16:
      return "    found = torch.index_select(table, 0, ids).to(6)\n"
             "    pooled = torch.embedding_bag(found, torch.arange(ids.size(0), device=ids.device), offsets, False, 0, "
             "False, weights, False)[0]\n";
    case TableType::kInt8:
      return "    pooled = quantized.embedding_bag_byte_rowwise_offsets(table, ids, offsets, False, 0, False, weights, "
             "None, False)\n";
    case TableType::kInt4:
      return "    pooled = quantized.embedding_bag_4bit_rowwise_offsets(table, ids, offsets, False, 0, False, weights, "
             "None, False)\n";
    case TableType::kInt2:
      return "    pooled = quantized.embedding_bag_2bit_rowwise_offsets(table, ids, offsets, False, 0, False, weights, "
             "None, False)\n";
    default:
      return "    pooled = torch.embedding_bag(table, ids, offsets, False, 0, False, weights, False)[0]\n";
  }
}

/// A method that pools the rows of bags.
std::string BagMethod(const std::string& name, TableType type) {
  return "def " + name +
         R"((self, table: Tensor, values: Tensor, lengths: Tensor, weights: Optional[Tensor], mean: bool) -> Tensor:
    rows = table.size(0)
    ids = torch.where((values < 0) | (values >= rows), torch.zeros_like(values), values)
    offsets = torch.cumsum(lengths, 0) - lengths
)" + BagSum(type) +
         R"(    if mean:
        pooled = pooled / torch.clamp(lengths, min=1).to(pooled.dtype).unsqueeze(1)
    return pooled

)";
}

/// rows [elements, D] of sequences of these lengths -> [B, T, D], T columns of `position`, zeros behind each row's end.
constexpr const char* kPadMethod = R"(def pad(self, rows: Tensor, lengths: Tensor, position: Tensor) -> Tensor:
    first = (torch.cumsum(lengths, 0) - lengths).unsqueeze(1)
    inside = position < lengths.unsqueeze(1)
    index = torch.where(inside, first + position, torch.zeros_like(position))
    some = torch.cat([rows, torch.zeros([1, rows.size(1)], dtype=rows.dtype, device=rows.device)], 0)
    padded = torch.index_select(some, 0, index.reshape([-1])).reshape([index.size(0), index.size(1), rows.size(1)])
    return padded * inside.unsqueeze(2).to(padded.dtype)

)";

/// Whether a feature's rows are tiled in that mode of settings.input_tile.
bool Tiled(const Settings& settings, const features::Feature& feature, int mode) {
  return settings.input_tile == mode && feature.user_side();
}

/// The rows of the batch, by what comes in.
std::string BatchSize(const features::FeatureSet& features, const Settings& settings) {
  const auto& feature = features.all().front();
  const bool dense = !feature.sparse && !feature.sequence;
  return "data[" + Quote(feature.name + (dense ? ".values" : ".lengths")) + "].size(0)" +
         (settings.input_tile != 0 && feature.user_side() ? " * tiles" : "");
}

/// Statements that make the tensors of the plan's sequence groups, and their names.
class SequenceStatements {
 public:
  SequenceStatements(const models::EmbeddingPlan& plan, const features::FeatureSet& features, const Settings& settings)
      : plan_(plan), features_(features), settings_(settings) {
    for (const auto* feature : features.dense_sequences()) AddDense(*feature);
    for (size_t l = 0; l < plan.lookups.size(); ++l) {
      if (plan.tables[plan.lookups[l].table].sequence) AddLookup(plan.lookups[l], std::to_string(l));
    }
    for (size_t g = 0; g < plan.sequence_groups.size(); ++g) AddGroup(plan.sequence_groups[g], std::to_string(g));
  }

  std::string text() const { return text_.str(); }
  const std::string& results() const { return results_; }  ///< ", query_0, sequence_0, ..."

 private:
  void AddDense(const features::Feature& feature) {
    const std::string f = std::to_string(feature.index);
    const bool tiled = settings_.input_tile != 0 && feature.user_side();
    text_ << "    dense_rows_" << f << " = data[" << Quote(feature.name + ".values") << "].to(d, 6).reshape([-1, "
          << feature.value_dim << "])" << (tiled ? ".repeat([tiles, 1])" : "") << "\n"
          << "    dense_lengths_" << f << " = data[" << Quote(feature.name + ".lengths") << "].to(d, 4)"
          << (tiled ? ".repeat([tiles])" : "") << "\n";
  }

  void AddLookup(const models::Lookup& lookup, const std::string& l) {
    const models::Table& table = plan_.tables[lookup.table];
    const std::string f = std::to_string(lookup.feature);
    std::string values = "values_" + f, lengths = "lengths_" + f;
    if (lookup.per_element) {
      lengths = "torch.ones_like(values_" + f + ")";
    } else if (lookup.first_only) {
      text_ << "    first_" << l << " = (torch.cumsum(" << lengths << ", 0) - " << lengths << ")[" << lengths
            << " > 0]\n";
      values = "torch.index_select(" + values + ", 0, first_" + l + ")";
      lengths = "torch.clamp(" + lengths + ", max=1)";
    }
    text_ << "    rows_" << l << " = self.element(" << Attribute(table.state_name()) << ", " << values << ", "
          << lengths << ", None, " << (lookup.pooling == features::Pooling::kMean ? "True" : "False") << ")"
          << (Tiled(settings_, *features_.sparse()[lookup.feature], 3) ? ".repeat([tiles, 1])" : "") << "\n";
  }

  /// Of the rows of the batch.
  std::string LengthsOf(const models::SequencePart& part) const {
    const std::string f = std::to_string(part.feature);
    if (!part.looked_up) return "dense_lengths_" + f;
    return "lengths_" + f + (Tiled(settings_, *features_.sparse()[part.feature], 3) ? ".repeat([tiles])" : "");
  }

  /// Of the elements, or the batch's rows, that a part is made from.
  std::string RowsOf(const models::SequencePart& part) const {
    return part.looked_up ? "rows_" + std::to_string(LookupOf(plan_, part))
                          : "dense_rows_" + std::to_string(part.feature);
  }

  /// The first features' lengths, and the features side by side, which have as many elements.
  void AddJagged(const models::SequenceGroup& group, const std::string& g) {
    std::string sequence;
    for (const models::SequencePart& part : group.sequence) sequence += (sequence.empty() ? "" : ", ") + RowsOf(part);
    text_ << "    sequence_" << g << " = torch.cat([" << sequence << "], 1)\n"
          << "    length_" << g << " = " << LengthsOf(group.sequence.front()) << "\n";
  }

  void AddGroup(const models::SequenceGroup& group, const std::string& g) {
    std::string query, sequence;
    for (const models::SequencePart& part : group.query) {
      const std::string columns = std::to_string(part.column) + ":" + std::to_string(part.column + part.width);
      query += (query.empty() ? "" : ", ") + (part.looked_up ? RowsOf(part) : "dense[:, " + columns + "]");
    }
    if (!query.empty()) {
      text_ << "    query_" << g << " = torch.cat([" << query << "], 1)\n";
      results_ += ", query_" + g;
    }
    if (group.sequence.empty()) return;
    results_ += ", sequence_" + g + ", length_" + g;
    if (group.jagged) return AddJagged(group, g);
    for (const models::SequencePart& part : group.sequence) {
      const std::string lengths = LengthsOf(part);
      if (sequence.empty()) {
        const std::string longest = "max(int(length_" + g + ".max()), 1)";
        text_ << "    length_" << g << " = " << lengths << "\n"
              << "    position_" << g << " = torch.arange("
              << (group.most > 0 ? "min(" + longest + ", " + std::to_string(group.most) + ")" : longest)
              << ", device=d).unsqueeze(0)\n";
      }
      sequence +=
          (sequence.empty() ? "" : ", ") + ("self.pad(" + RowsOf(part) + ", " + lengths + ", position_" + g + ")");
    }
    text_ << "    sequence_" << g << " = torch.cat([" << sequence << "], 2)\n"
          << "    mask_" << g << " = position_" << g << " < length_" << g << ".unsqueeze(1)\n";
    results_ += ", mask_" + g;
  }

  const models::EmbeddingPlan& plan_;
  const features::FeatureSet& features_;
  const Settings& settings_;
  std::ostringstream text_;
  std::string results_;
};

}  // namespace

std::string Quote(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

std::string ReturnOutputs(const std::vector<std::string>& names, const std::vector<size_t>& order) {
  std::string text = "    return {\n";
  for (size_t i = 0; i < order.size(); ++i) {
    text += "        " + Quote(names[order[i]]) + ": outputs[" + std::to_string(order[i]) + "]" +
            (i + 1 < order.size() ? "," : "") + "\n";
  }
  return text + "    }\n";
}

// Scalar types are written as their numbers (4: int64, 6: float32): Module::define knows no torch.int64.
std::string LookupSource(const models::EmbeddingPlan& plan, const features::FeatureSet& features,
                         const Settings& settings) {
  const SequenceStatements sequences(plan, features, settings);
  std::ostringstream s;
  s << "\n" << BagMethod("bag", settings.pooled);
  if (!plan.sequence_groups.empty()) s << BagMethod("element", settings.sequence) << kPadMethod;
  s << R"(def lookup(self, data: Dict[str, Tensor], device: str) -> List[Tensor]:
    d = torch.device(device)
)";
  if (settings.input_tile) s << "    tiles = int(data[\"batch_size\"])\n";
  for (const auto* feature : features.sparse()) {
    const std::string i = std::to_string(feature->index), key = feature->name;
    const std::string tile = Tiled(settings, *feature, 2) ? ".repeat([tiles])" : "";
    s << "    values_" << i << " = data[" << Quote(key + ".values") << "].to(d, 4)" << tile << "\n"
      << "    lengths_" << i << " = data[" << Quote(key + ".lengths") << "].to(d, 4)" << tile << "\n";
    if (features.weighted()) {
      s << "    weights_" << i << " = data[" << Quote(key + ".weights") << "].to(d, 6)" << tile << "\n";
    }
  }
  const auto pooled = [&](const models::Lookup& lookup) { return !plan.tables[lookup.table].sequence; };
  const bool any = std::any_of(plan.lookups.begin(), plan.lookups.end(), pooled);
  s << (any ? "    pooled = torch.cat([\n"
            : "    pooled = torch.zeros([" + BatchSize(features, settings) + ", 0], device=d)\n");
  for (const auto& lookup : plan.lookups) {
    const auto& table = plan.tables[lookup.table];
    if (!pooled(lookup)) continue;
    const std::string i = std::to_string(lookup.feature);
    s << "        self.bag(" << Attribute(table.state_name()) << ", values_" << i << ", lengths_" << i << ", "
      << (features.weighted() ? "weights_" + i : "None") << ", "
      << (table.pooling == features::Pooling::kMean ? "True" : "False") << ")"
      << (Tiled(settings, *features.sparse()[lookup.feature], 3) ? ".repeat([tiles, 1])" : "") << ",\n";
  }
  if (any) s << "    ], 1)\n";
  if (features.dense().empty()) {
    s << "    dense = torch.zeros([pooled.size(0), 0], device=d)\n";
  } else {
    s << "    dense = torch.cat([\n";
    for (const auto* feature : features.dense()) {
      s << "        data[" << Quote(feature->name + ".values") << "].to(d, 6).reshape([-1, " << feature->value_dim
        << "])" << (settings.input_tile != 0 && feature->user_side() ? ".repeat([tiles, 1])" : "") << ",\n";
    }
    s << "    ], 1)\n";
  }
  s << sequences.text() << "    return [pooled, dense" << sequences.results() << "]\n";
  return s.str();
}

size_t LookupOf(const models::EmbeddingPlan& plan, const models::SequencePart& part) {
  const auto is = [&](const models::Lookup& lookup) {
    return plan.tables[lookup.table].sequence && lookup.column == part.column;
  };
  return std::find_if(plan.lookups.begin(), plan.lookups.end(), is) - plan.lookups.begin();
}

size_t LookupResults(const models::EmbeddingPlan& plan) {
  size_t results = 2;
  for (const auto& group : plan.sequence_groups)
    results += (group.query.empty() ? 0 : 1) + (group.sequence.empty() ? 0 : group.jagged ? 2 : 3);
  return results;
}

}  // namespace anneal::exporting
