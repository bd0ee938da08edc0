#include "worker/export/lookup_source.h"

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
  const auto tiled = [&settings](const features::Feature& feature, int mode) {
    return settings.input_tile == mode && feature.side == "user";
  };
  std::ostringstream s;
  s << R"(
def bag(self, table: Tensor, values: Tensor, lengths: Tensor, weights: Optional[Tensor], mean: bool) -> Tensor:
    rows = table.size(0)
    ids = torch.where((values < 0) | (values >= rows), torch.zeros_like(values), values)
    offsets = torch.cumsum(lengths, 0) - lengths
)" << BagSum(settings.pooled)
    << R"(    if mean:
        pooled = pooled / torch.clamp(lengths, min=1).to(pooled.dtype).unsqueeze(1)
    return pooled

def lookup(self, data: Dict[str, Tensor], device: str) -> Tuple[Tensor, Tensor]:
    d = torch.device(device)
)";
  if (settings.input_tile) s << "    tiles = int(data[\"batch_size\"])\n";
  for (const auto* feature : features.sparse()) {
    const std::string i = std::to_string(feature->index), key = feature->name;
    const std::string tile = tiled(*feature, 2) ? ".repeat([tiles])" : "";
    s << "    values_" << i << " = data[" << Quote(key + ".values") << "].to(d, 4)" << tile << "\n"
      << "    lengths_" << i << " = data[" << Quote(key + ".lengths") << "].to(d, 4)" << tile << "\n";
    if (features.weighted()) {
      s << "    weights_" << i << " = data[" << Quote(key + ".weights") << "].to(d, 6)" << tile << "\n";
    }
  }
  s << "    pooled = torch.cat([\n";
  for (const auto& lookup : plan.lookups) {
    const auto& table = plan.tables[lookup.table];
    const std::string i = std::to_string(lookup.feature);
    s << "        self.bag(" << Attribute(table.state_name()) << ", values_" << i << ", lengths_" << i << ", "
      << (features.weighted() ? "weights_" + i : "None") << ", "
      << (table.pooling == features::Pooling::kMean ? "True" : "False") << ")"
      << (tiled(*features.sparse()[lookup.feature], 3) ? ".repeat([tiles, 1])" : "") << ",\n";
  }
  s << "    ], 1)\n";
  if (features.dense().empty()) {
    s << "    dense = torch.zeros([pooled.size(0), 0], device=d)\n";
  } else {
    s << "    dense = torch.cat([\n";
    for (const auto* feature : features.dense()) {
      s << "        data[" << Quote(feature->name + ".values") << "].to(d, 6).reshape([-1, " << feature->value_dim
        << "])" << (tiled(*feature, 2) || tiled(*feature, 3) ? ".repeat([tiles, 1])" : "") << ",\n";
    }
    s << "    ], 1)\n";
  }
  s << "    return pooled, dense\n";
  return s.str();
}

}  // namespace anneal::exporting
