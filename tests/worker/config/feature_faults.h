// What `anneal check` says of features.
#pragma once

#include <string>

#include "worker/config/pipeline.h"

namespace anneal::config {

/// The faults under feature_configs, one a line. The features begin in line 2.
inline std::string FeatureFaults(const std::string& features, const std::string& data = "fg_mode: FG_DAG") {
  std::string faults;
  const LoadedConfig loaded = ParsePipelineConfig(
      "data_config { label_fields: 'l' dataset_type: ParquetDataset " + data + " }\n" + features, "p");
  for (const Fault& fault : Validate(loaded)) {
    if (fault.path.starts_with("feature_configs")) faults += FaultLine("p", fault) + "\n";
  }
  return faults;
}

}  // namespace anneal::config
