#include "worker/features/feature_config.h"

namespace anneal::features {

using tzrec::protos::EasyRecConfig;
using tzrec::protos::IdFeature;
using tzrec::protos::RawFeature;

IdFeature InSequence(IdFeature config) {
  if (config.default_value().empty()) config.set_default_value("0");
  if (!config.has_value_dim()) config.set_value_dim(1);
  return config;
}

RawFeature InSequence(RawFeature config) {
  if (config.default_value().empty()) config.set_default_value("0");
  return config;
}

IdFeature IdConfig(const EasyRecConfig& config, const Feature& feature) {
  const auto& entry = config.feature_configs(feature.config_index);
  return AsItCounts(feature, entry.has_sequence_feature()
                                 ? entry.sequence_feature().features(feature.member_index).id_feature()
                             : feature.sequence ? entry.sequence_id_feature()
                                                : entry.id_feature());
}

RawFeature RawConfig(const EasyRecConfig& config, const Feature& feature) {
  const auto& entry = config.feature_configs(feature.config_index);
  return AsItCounts(feature, entry.has_sequence_feature()
                                 ? entry.sequence_feature().features(feature.member_index).raw_feature()
                             : feature.sequence ? entry.sequence_raw_feature()
                                                : entry.raw_feature());
}

}  // namespace anneal::features
