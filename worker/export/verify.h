// Whether an exported model says the same as the model it came from.
//
// The exporting process writes down what the model answers on real batches; a fresh process (`anneal verify-export`),
// which knows nothing but the artefact, answers the same batches.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "worker/data/batch_stream.h"
#include "worker/eval/trained_model.h"
#include "worker/export/settings.h"

namespace anneal::exporting {

/// Answers on the first batches of an input, rows of all batches one after another.
struct Answers {
  std::vector<std::pair<std::string, at::Tensor>> values;  ///< output name -> [rows, ...]
  int64_t batches = 0, rows = 0;
};

struct Difference {
  double max = 0, mean = 0;  ///< absolute, over all outputs; infinite where only one of the two is NaN
};

/// Rows in the order of the input, read by one thread.
data::BatchStream OpenRows(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
                           const std::string& path, data::Mode mode = data::Mode::kPredict);

Answers Ask(eval::TrainedModel& model, const std::string& input_path, int64_t batches);
Difference Compare(const Answers& a, const Answers& b);

/// Rounds the model's tables in place as an export with these settings does.
void RoundTables(eval::TrainedModel& model, const Settings& settings);

/// `anneal verify-export`: loads the artefact in `folder`, answers the rows of `input_path` and compares with the
/// answers in the file `expected`. Writes {max_abs_diff, mean_abs_diff, batches, rows} to `report`.
struct VerifyOptions {
  std::string folder, input_path, expected, report;
  std::string compiler_python = "python3";  ///< runs ONNX models
};
int RunVerify(const VerifyOptions& options);

/// Runs `anneal verify-export` in a process of its own. `program` is the anneal executable. Throws Error with the last
/// lines of the process when it fails.
Difference VerifyInFreshProcess(const std::string& program, const std::string& folder, const std::string& input_path,
                                const Answers& expected, const std::string& compiler_python);

}  // namespace anneal::exporting
