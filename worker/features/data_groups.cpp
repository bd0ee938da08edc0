#include "worker/features/data_groups.h"

#include <algorithm>

namespace anneal::features {

bool IsSampled(const Feature& feature, const std::vector<std::string>& attr_fields) {
  return std::find_first_of(feature.inputs.begin(), feature.inputs.end(), attr_fields.begin(), attr_fields.end()) !=
         feature.inputs.end();
}

}  // namespace anneal::features
