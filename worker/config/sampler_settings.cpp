#include "worker/config/sampler_settings.h"

#include <filesystem>
#include <set>

#include "worker/config/source_map.h"
#include "worker/config/tree_sampler_settings.h"

namespace anneal::config {
namespace {

using tzrec::protos::DataConfig;

/// What all four messages have.
template <typename Sampler>
SamplerSettings Start(const std::string& name, const Sampler& sampler) {
  SamplerSettings settings;
  settings.field = "data_config." + name;
  settings.num_sample = sampler.num_sample();
  if (sampler.has_num_eval_sample()) settings.num_eval_sample = sampler.num_eval_sample();
  settings.attr_fields.assign(sampler.attr_fields().begin(), sampler.attr_fields().end());
  settings.item_id_field = sampler.item_id_field();
  settings.attr_delimiter = sampler.attr_delimiter();
  settings.field_delimiter = sampler.has_field_delimiter() ? sampler.field_delimiter() : "\t";
  return settings;
}

/// What those with users have.
template <typename Sampler>
SamplerSettings StartWithUsers(const std::string& name, const Sampler& sampler) {
  SamplerSettings settings = Start(name, sampler);
  settings.items = {settings.field + ".item_input_path", sampler.item_input_path()};
  settings.users = {settings.field + ".user_input_path", sampler.user_input_path()};
  settings.user_id_field = sampler.user_id_field();
  return settings;
}

template <typename Sampler>
void SetPositiveEdges(const Sampler& sampler, SamplerSettings& settings) {
  settings.positive_edges = {settings.field + ".pos_edge_input_path", sampler.pos_edge_input_path()};
}

template <typename Sampler>
void SetHardEdges(const Sampler& sampler, SamplerSettings& settings) {
  settings.hard_edges = {settings.field + ".hard_neg_edge_input_path", sampler.hard_neg_edge_input_path()};
  settings.num_hard_sample = sampler.num_hard_sample();
}

}  // namespace

std::vector<SamplerTable> SamplerSettings::Tables() const {
  std::vector<SamplerTable> tables = {items};
  for (const auto& table : {users, positive_edges, hard_edges}) {
    if (table) tables.push_back(*table);
  }
  return tables;
}

std::optional<SamplerSettings> SamplerOf(const DataConfig& config) {
  switch (config.sampler_case()) {
    case DataConfig::kNegativeSampler: {
      const auto& sampler = config.negative_sampler();
      SamplerSettings settings = Start("negative_sampler", sampler);
      settings.items = {settings.field + ".input_path", sampler.input_path()};
      settings.item_id_delimiter = sampler.item_id_delim();
      return settings;
    }
    case DataConfig::kNegativeSamplerV2: {
      SamplerSettings settings = StartWithUsers("negative_sampler_v2", config.negative_sampler_v2());
      SetPositiveEdges(config.negative_sampler_v2(), settings);
      return settings;
    }
    case DataConfig::kHardNegativeSampler: {
      SamplerSettings settings = StartWithUsers("hard_negative_sampler", config.hard_negative_sampler());
      SetHardEdges(config.hard_negative_sampler(), settings);
      return settings;
    }
    case DataConfig::kHardNegativeSamplerV2: {
      SamplerSettings settings = StartWithUsers("hard_negative_sampler_v2", config.hard_negative_sampler_v2());
      SetPositiveEdges(config.hard_negative_sampler_v2(), settings);
      SetHardEdges(config.hard_negative_sampler_v2(), settings);
      return settings;
    }
    default:
      return std::nullopt;
  }
}

void CheckSampler(const DataConfig& config, const Report& fail) {
  const std::optional<SamplerSettings> sampler = SamplerOf(config);
  if (!sampler) return;
  CheckTables(sampler->Tables(), fail);
  const auto count = [&](const std::string& name, uint32_t number) {
    if (number == 0 || number > kMostSamples)
      fail(sampler->field + "." + name, "must be at least 1 and at most " + std::to_string(kMostSamples));
  };
  count("num_sample", sampler->num_sample);
  if (sampler->num_eval_sample) count("num_eval_sample", *sampler->num_eval_sample);
  if (sampler->hard_edges) count("num_hard_sample", sampler->num_hard_sample);
  if (sampler->item_id_field.empty()) fail(sampler->field + ".item_id_field", "is missing");
  if (sampler->users && sampler->user_id_field.empty()) fail(sampler->field + ".user_id_field", "is missing");
  CheckAttributes(sampler->field, sampler->attr_fields, sampler->attr_delimiter, sampler->field_delimiter, fail);
}

void CheckTables(const std::vector<SamplerTable>& tables, const Report& fail) {
  for (const SamplerTable& table : tables) {
    if (table.path.empty()) {
      fail(table.field, "is missing");
    } else if (table.path.starts_with("odps://")) {
      fail(table.field, "'" + table.path + "' is a table of MaxCompute: not supported yet, only local text files are");
    } else if (table.path.find("://") != std::string::npos) {
      fail(table.field, "'" + table.path + "' is no local file: only those are supported yet");
    }
  }
}

void CheckAttributes(const std::string& field, const std::vector<std::string>& attr_fields,
                     const std::string& attr_delimiter, const std::string& field_delimiter, const Report& fail) {
  if (attr_delimiter.empty()) fail(field + ".attr_delimiter", "must not be empty");
  if (field_delimiter.empty()) fail(field + ".field_delimiter", "must not be empty");
  if (attr_fields.empty()) fail(field, "attr_fields is empty");
  std::set<std::string> names;
  for (size_t i = 0; i < attr_fields.size(); ++i) {
    if (!names.insert(attr_fields[i]).second) {
      fail(Item(field + ".attr_fields", static_cast<int>(i)), "'" + attr_fields[i] + "' is listed twice");
    }
  }
}

void CheckSamplerFiles(const DataConfig& config, const Report& fail) {
  std::vector<SamplerTable> tables;
  if (const auto sampler = SamplerOf(config)) tables = sampler->Tables();
  if (const auto sampler = TreeSamplerOf(config)) tables = sampler->Tables();
  for (const SamplerTable& table : tables) {
    std::error_code ignored;
    const auto status = std::filesystem::status(table.path, ignored);
    if (!std::filesystem::exists(status)) {
      fail(table.field, "there is no file " + table.path);
    } else if (!std::filesystem::is_regular_file(status)) {
      fail(table.field, table.path + " is no regular file");
    }
  }
}

}  // namespace anneal::config
