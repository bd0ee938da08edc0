#include "operator/controllers/config_check.h"

#include "worker/config/pipeline.h"

namespace anneal::controllers {

std::string CheckConfig(const std::string& text, const kube::Json& edits, const std::string& where) {
  try {
    config::LoadedConfig loaded = config::ParsePipelineConfig(text, where);
    config::Overrides overrides;
    if (!edits.empty()) overrides.edit_config_json = edits.dump();
    config::ApplyOverrides(loaded.config, overrides);
    std::string faults;
    for (const config::Fault& fault : config::Validate(loaded)) {
      faults += (faults.empty() ? "" : "\n") + config::FaultLine(where, fault);
    }
    return faults;
  } catch (const ConfigError& error) {
    return error.what();
  }
}

}  // namespace anneal::controllers
