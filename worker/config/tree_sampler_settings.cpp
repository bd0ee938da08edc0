#include "worker/config/tree_sampler_settings.h"

#include <algorithm>
#include <cmath>

#include "worker/config/source_map.h"

namespace anneal::config {

int64_t TreeSamplerSettings::RemainingLevels() const {
  const int64_t inner = levels() - 2;
  // As Python rounds: a half to the even one.
  return remain_ratio < 1 ? std::lrint(remain_ratio * static_cast<double>(inner)) : inner;
}

std::optional<TreeSamplerSettings> TreeSamplerOf(const tzrec::protos::DataConfig& config) {
  if (!config.has_tdm_sampler()) return std::nullopt;
  const auto& sampler = config.tdm_sampler();
  TreeSamplerSettings settings;
  settings.field = "data_config.tdm_sampler";
  settings.nodes = {settings.field + ".item_input_path", sampler.item_input_path()};
  settings.ancestors = {settings.field + ".edge_input_path", sampler.edge_input_path()};
  settings.children = {settings.field + ".predict_edge_input_path", sampler.predict_edge_input_path()};
  settings.item_id_field = sampler.item_id_field();
  settings.attr_fields.assign(sampler.attr_fields().begin(), sampler.attr_fields().end());
  // parity/data.md 8: level and id stand first where they are not listed.
  for (const std::string& name : {settings.item_id_field, std::string(kTreeLevel)}) {
    auto& fields = settings.attr_fields;
    if (std::find(fields.begin(), fields.end(), name) == fields.end()) fields.insert(fields.begin(), name);
  }
  settings.attr_delimiter = sampler.attr_delimiter();
  settings.field_delimiter = sampler.has_field_delimiter() ? sampler.field_delimiter() : "\t";
  settings.layer_num_sample.assign(sampler.layer_num_sample().begin(), sampler.layer_num_sample().end());
  settings.remain_ratio = sampler.remain_ratio();
  settings.probability_type = sampler.probability_type();
  return settings;
}

void CheckTreeSampler(const tzrec::protos::DataConfig& config, const Report& fail) {
  const std::optional<TreeSamplerSettings> sampler = TreeSamplerOf(config);
  if (!sampler) return;
  CheckTables(sampler->Tables(), fail);
  if (sampler->item_id_field.empty()) fail(sampler->field + ".item_id_field", "is missing");
  CheckAttributes(sampler->field, sampler->attr_fields, sampler->attr_delimiter, sampler->field_delimiter, fail);
  const std::string counts = sampler->field + ".layer_num_sample";
  if (sampler->levels() < 2) {
    fail(counts, "has " + std::to_string(sampler->levels()) +
                     " numbers: it needs one for each level from the root to "
                     "the leaves");
  } else if (sampler->layer_num_sample.front() != 0) {
    fail(Item(counts, 0), "has to be 0: the root has no other node beside it");
  }
  for (size_t i = 0; i < sampler->layer_num_sample.size(); ++i) {
    if (sampler->layer_num_sample[i] > kMostSamples)
      fail(Item(counts, static_cast<int>(i)), "must be at most " + std::to_string(kMostSamples));
  }
  if (config.tdm_sampler().has_num_eval_sample())
    fail(sampler->field + ".num_eval_sample", "has no meaning: layer_num_sample counts in evaluation, too");
  if (!(sampler->remain_ratio >= 0 && sampler->remain_ratio <= 1))
    fail(sampler->field + ".remain_ratio", "must be in [0, 1]");
  const std::string& type = sampler->probability_type;
  if (type != "UNIFORM" && type != "ARITHMETIC" && type != "RECIPROCAL")
    fail(sampler->field + ".probability_type", "'" + type + "' is not UNIFORM, ARITHMETIC or RECIPROCAL");
  if (config.label_fields().empty()) fail("data_config.label_fields", "is empty: tdm_sampler makes labels");
}

}  // namespace anneal::config
