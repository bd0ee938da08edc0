// Whether an exported model says the same as the model it came from.
#pragma once

#include <string>

#include "worker/data/batch_stream.h"
#include "worker/eval/trained_model.h"

namespace anneal::exporting {

struct VerifyReport {
  int64_t batches = 0, rows = 0;
  double max_abs_diff = 0;  ///< over all outputs
};

/// Loads the export anew and compares it on at most `batches` batches of the stream.
VerifyReport Verify(eval::TrainedModel& model, const std::string& folder, data::BatchStream& stream, int64_t batches);

}  // namespace anneal::exporting
