// Which checkpoint an export takes (parity/export.md 1).
#pragma once

#include <string>

#include "tzrec/pipeline.pb.h"

namespace anneal::exporting {

/// `given` (--checkpoint_path); without it what export_config.exporter_type says: the model_dir, whose newest
/// checkpoint is meant (latest), or the one with the best metric in train_eval_result_v2.txt (best; without that file
/// the newest). Throws ConfigError naming the field when the best one is gone or the metric is not said.
std::string ChooseCheckpoint(const tzrec::protos::EasyRecConfig& config, const std::string& given);

}  // namespace anneal::exporting
