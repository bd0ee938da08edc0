#include "operator/controllers/config_check.h"

#include "worker/config/pipeline.h"

namespace anneal::controllers {

std::string CheckConfig(const std::string& text, const kube::Json& edits, const std::string& where) {
  config::Overrides overrides;
  if (!edits.empty()) overrides.edit_config_json = edits.dump();
  try {
    config::CheckedConfig(text, where, overrides);
    return "";
  } catch (const ConfigError& error) {
    return error.what();
  }
}

}  // namespace anneal::controllers
