// Which checkpoint of a run is the best one by its evaluations (parity/export.md 1).
#pragma once

#include <optional>

#include "tzrec/pipeline.pb.h"
#include "worker/train/progress/progress.h"

namespace anneal::eval {

/// With export_config.exporter_type "best": the evaluation in model_dir with the best value of best_exporter_metric; of
/// equal ones the first. nullopt: another exporter_type, or no evaluation yet. Throws ConfigError when the metric is
/// not in the lines, or not named although they hold several: the proto's default does not apply.
std::optional<train::BestCheckpoint> FindBestResult(const tzrec::protos::EasyRecConfig& config);

}  // namespace anneal::eval
