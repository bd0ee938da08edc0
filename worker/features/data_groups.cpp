#include "worker/features/data_groups.h"

#include <algorithm>

namespace anneal::features {

bool IsSampled(const Feature& feature, const std::vector<std::string>& attr_fields) {
  return std::find_first_of(feature.inputs.begin(), feature.inputs.end(), attr_fields.begin(), attr_fields.end()) !=
         feature.inputs.end();
}

std::vector<const Feature*> SampledFeatures(const FeatureSet& set, const std::vector<std::string>& attr_fields) {
  std::vector<const Feature*> sampled;
  for (const Feature& feature : set.all()) {
    if (IsSampled(feature, attr_fields)) sampled.push_back(&feature);
  }
  return sampled;
}

}  // namespace anneal::features
