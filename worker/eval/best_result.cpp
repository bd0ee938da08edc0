#include "worker/eval/best_result.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/eval/evaluator.h"

namespace anneal::eval {

using nlohmann::json;

std::optional<train::BestCheckpoint> FindBestResult(const tzrec::protos::EasyRecConfig& config) {
  const auto& settings = config.export_config();
  if (settings.exporter_type() != "best") return std::nullopt;
  const std::string path = ResultPath(config.model_dir());
  std::ifstream in(path);
  std::optional<train::BestCheckpoint> best;
  for (std::string line; std::getline(in, line);) {
    // The reference's file may hold NaN, which JSON does not know: such a value is never the best.
    for (size_t at; (at = line.find("NaN")) != std::string::npos;) line.replace(at, 3, "null");
    const json result = json::parse(line, nullptr, false);
    if (!result.is_object() || !result.contains("global_step")) continue;
    std::string metric = settings.best_exporter_metric();
    if (!settings.has_best_exporter_metric()) {
      if (result.size() > 2)
        throw ConfigError("export_config.best_exporter_metric must be set: " + path + " holds several metrics");
      for (const auto& [name, value] : result.items()) metric = name == "global_step" ? metric : name;
    }
    if (!result.contains(metric))
      throw ConfigError("export_config.best_exporter_metric: " + path + " has no '" + metric + "'");
    if (!result[metric].is_number() || !result["global_step"].is_number()) continue;
    const double value = result[metric];
    if (!best || (settings.metric_larger_is_better() ? value > best->value : value < best->value))
      best = train::BestCheckpoint{result["global_step"], metric, value};
  }
  return best;
}

}  // namespace anneal::eval
