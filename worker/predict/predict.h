// `anneal predict`: rows in, predictions out, with an exported model or a checkpoint (parity/data.md 6-7).
#pragma once

#include <cstdint>
#include <string>

namespace anneal::predict {

/// The command line; names and defaults are tzrec.predict's (parity/train.md 20).
struct PredictOptions {
  std::string scripted_model_path, pipeline_config_path, checkpoint_path;
  std::string predict_input_path, predict_output_path;
  std::string reserved_columns, output_columns;  ///< comma lists
  std::string dataset_type, writer_type, edit_config_json;
  int64_t batch_size = 0;      ///< 0: the config's
  int64_t predict_threads = 0; ///< accepted; batches are predicted one after another with all threads
  int64_t predict_steps = 0;   ///< 0: all batches
  int64_t debug_level = 0;
  bool is_profiling = false;
};

/// Writes <predict_output_path>/part-<rank>.{parquet,csv} in the order of the input. Returns 0; throws Error.
int RunPredict(const PredictOptions& options);

}  // namespace anneal::predict
