// Which checkpoint of a run is the best one by its evaluations (parity/export.md 1).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tzrec/pipeline.pb.h"

namespace anneal::eval {

/// A line of train_eval_result_v2.txt.
struct BestResult {
  int64_t step = -1;
  std::string metric;
  double value = 0;
};

/// With export_config.exporter_type "best": the evaluation in model_dir with the best value of best_exporter_metric; of
/// equal ones the first. nullopt: another exporter_type, or no evaluation yet. Throws ConfigError when the metric is
/// not in the lines, or not named although they hold several: the proto's default does not apply.
std::optional<BestResult> FindBestResult(const tzrec::protos::EasyRecConfig& config);

}  // namespace anneal::eval
