#include "worker/features/feature_config.h"

namespace anneal::features {

using google::protobuf::Message;
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

config::Encoding AsItCounts(const Feature& feature, config::Encoding encoding) {
  std::visit(
      [&](auto& config) {
        if (feature.sequence) config = InSequence(std::move(config));
        config.set_feature_name(feature.name);
      },
      encoding);
  return encoding;
}

const Message& ConfigOf(const EasyRecConfig& config, const Feature& feature) {
  return config::FeatureAt(config, feature.config_index, feature.member_index);
}

config::Encoding EncodingOf(const EasyRecConfig& config, const Feature& feature) {
  config::Encoding encoding;
  config::VisitFeature(ConfigOf(config, feature), [&](const auto& one) { encoding = config::EncodingOf(one); });
  return AsItCounts(feature, std::move(encoding));
}

IdFeature IdConfig(const EasyRecConfig& config, const Feature& feature) {
  return std::get<IdFeature>(EncodingOf(config, feature));
}

RawFeature RawConfig(const EasyRecConfig& config, const Feature& feature) {
  return std::get<RawFeature>(EncodingOf(config, feature));
}

}  // namespace anneal::features
