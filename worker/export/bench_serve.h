// `anneal bench-serve`: how fast an exported model answers.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace anneal::exporting {

struct BenchServeOptions {
  std::string folder;      ///< of the export
  std::string input_path;  ///< rows to ask; default: eval_input_path of the export's pipeline.config
  std::vector<int64_t> batch_sizes = {1, 16, 256};
  std::vector<int> threads = {1};  ///< callers at once; each operator runs on its caller's thread
  double seconds = 2;              ///< of each measurement, after a warm-up
  std::string report;              ///< JSON file to write; empty: none
};

/// One line per batch size and number of threads: p50, p99 [us] of a call and rows per second. Inputs are built before
/// the clock starts: what is measured is the model.
int RunBenchServe(const BenchServeOptions& options);

}  // namespace anneal::exporting
