#include "worker/train/delta/delta_dump.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "worker/config/error.h"
#include "worker/embedding/quantized_row.h"
#include "worker/train/progress/log.h"

namespace anneal::train {

using nlohmann::json;

DeltaDump::DeltaDump(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
                     const models::EmbeddingPlan& plan, embedding::ShardedEmbedding& tables, dist::ProcessGroup& group)
    : config_(config.train_config().delta_embedding_dump_config()),
      plan_(plan),
      group_(group),
      touched_(plan),
      collector_(plan, tables, group),
      folder_(config_.output_dir().empty() ? config.model_dir() + "/delta_embedding_dump" : config_.output_dir()),
      feature_names_(plan.tables.size()) {
  for (size_t t = 0; t < plan.tables.size(); ++t) {
    std::vector<std::string> names;
    for (const auto& lookup : plan.lookups) {
      const std::string& name = features.sparse()[lookup.feature]->name;
      if (lookup.table != static_cast<int>(t) || std::find(names.begin(), names.end(), name) != names.end()) continue;
      feature_names_[t] += (names.empty() ? "" : ",") + name;
      names.push_back(name);
    }
    if (quantized() && (plan.tables[t].dim + embedding::kQuantizedRowTail) % 2 != 0) {
      throw ConfigError(
          "train_config.delta_embedding_dump_config.quant_type: DELTA_EMBEDDING_QUANT_INT8 needs an even "
          "embedding_dim; table " +
          plan.tables[t].name + " has " + std::to_string(plan.tables[t].dim));
    }
  }
  next_ = std::chrono::steady_clock::now() + interval();
}

bool DeltaDump::MinutesOver() const {
  return config_.has_dump_interval_minutes() && std::chrono::steady_clock::now() >= next_;
}

bool DeltaDump::Due(int64_t step, bool asked) const {
  if (config_.has_dump_interval_minutes()) return asked;
  return step > 0 && step % config_.dump_interval_steps() == 0;
}

bool DeltaDump::Dump(int64_t step) {
  while (MinutesOver()) next_ += interval();
  DeltaFile file = Collect(step);
  int64_t rows = 0;
  for (const DeltaRows& table : file.tables) rows += static_cast<int64_t>(table.keys.size());
  const auto all = group_.AllGather(rows);
  if (std::accumulate(all.begin(), all.end(), int64_t{0}) == 0) {
    if (group_.rank() == 0) LogInfo("No delta embedding rows to dump at step " + std::to_string(step) + ".");
    return true;
  }
  const std::string path = PathOf(step);
  bool written = true;
  try {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    WriteDeltaFile(path, file);
    LogInfo(rows > 0 ? "Dumped " + std::to_string(rows) + " delta embedding rows to " + path + "."
                     : "Dumped empty delta embedding shard to " + path + " at step " + std::to_string(step) + ".");
  } catch (const std::exception& error) {
    written = false;
    LogError("the delta embedding rows of step " + std::to_string(step) + " wait for the next dump: " + error.what());
    for (size_t t = 0; t < file.tables.size(); ++t) touched_.Add(static_cast<int>(t), file.tables[t].keys);
  }
  const auto ok = group_.AllGather(written ? 1 : 0);
  return std::find(ok.begin(), ok.end(), 0) == ok.end();
}

DeltaFile DeltaDump::Collect(int64_t step) {
  DeltaFile file{step, group_.rank(), group_.world_size(), quantized(), {}};
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    auto collected = collector_.Collect(static_cast<int>(t), touched_.rows(static_cast<int>(t)));
    const std::string name = plan_.tables[t].state_name(), suffix = ".weight";
    file.tables.push_back({feature_names_[t], name.substr(0, name.size() - suffix.size()), plan_.tables[t].dim,
                           std::move(collected.rows), std::move(collected.values)});
  }
  touched_.Clear();
  return file;
}

std::string DeltaDump::PathOf(int64_t step) const {
  const std::string at = "step_" + std::to_string(step), name = config_.file_prefix() + "_" + at;
  if (group_.world_size() == 1) return folder_ + "/" + name + ".parquet";
  return folder_ + "/" + at + "/" + name + "_rank_" + std::to_string(group_.rank()) + "_of_" +
         std::to_string(group_.world_size()) + ".parquet";
}

// Which rank holds what makes no difference to the next dump.
std::string DeltaDump::State() {
  json mine = json::object();
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    if (auto rows = touched_.rows(static_cast<int>(t)); !rows.empty())
      mine[plan_.tables[t].unique_name()] = std::move(rows);
  }
  std::map<std::string, std::vector<int64_t>> all;
  for (const std::string& text : group_.AllGatherText(mine.dump())) {
    const json of_rank = json::parse(text);
    for (const auto& [table, rows] : of_rank.items()) {
      auto& joined = all[table];
      const size_t before = joined.size();
      for (const json& row : rows) joined.push_back(row);
      std::inplace_merge(joined.begin(), joined.begin() + static_cast<int64_t>(before), joined.end());
      joined.erase(std::unique(joined.begin(), joined.end()), joined.end());
    }
  }
  return json(all).dump();
}

void DeltaDump::Restore(const checkpoint::Reader& reader) {
  if (group_.rank() != 0) return;
  const std::string where = reader.path() + "/" + kFile;
  const json state = json::parse(reader.file(kFile).value_or("{}"), nullptr, false);
  if (!state.is_object()) throw DataError(where + " is not a JSON object");
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    const auto& table = plan_.tables[t];
    if (!table.trainable || !state.contains(table.unique_name())) continue;
    std::vector<int64_t> rows;
    for (const json& row : state[table.unique_name()]) {
      if (!row.is_number_integer() || row < 0 || row >= table.rows) {
        throw DataError(where + ": " + row.dump() + " is no row of table '" + table.name + "' of " +
                        table.module_path());
      }
      rows.push_back(row);
    }
    touched_.Add(static_cast<int>(t), rows);
  }
}

}  // namespace anneal::train
