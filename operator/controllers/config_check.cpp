#include "operator/controllers/config_check.h"

#include <map>
#include <mutex>

#include "operator/api/spec_hash.h"
#include "worker/config/pipeline.h"

namespace anneal::controllers {
namespace {

std::string FaultsOf(const std::string& text, const kube::Json& edits, const std::string& where) {
  config::Overrides overrides;
  if (!edits.empty()) overrides.edit_config_json = edits.dump();
  try {
    config::CheckedConfig(text, where, overrides);
    return "";
  } catch (const ConfigError& error) {
    return error.what();
  }
}

}  // namespace

// Every reconcile asks, and jobs share configs: what was judged is kept.
std::string CheckConfig(const std::string& text, const kube::Json& edits, const std::string& where) {
  constexpr size_t kMost = 256;
  static std::mutex mutex;
  static std::map<std::string, std::string> judged;
  const std::string key = api::Sha256(text + '\0' + edits.dump() + '\0' + where);
  {
    const std::lock_guard lock(mutex);
    if (const auto found = judged.find(key); found != judged.end()) return found->second;
  }
  const std::string faults = FaultsOf(text, edits, where);
  const std::lock_guard lock(mutex);
  if (judged.size() >= kMost) judged.clear();
  judged[key] = faults;
  return faults;
}

}  // namespace anneal::controllers
