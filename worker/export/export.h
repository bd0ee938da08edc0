// `anneal export`: TorchEasyRec's export (parity/export.md).
#pragma once

#include <string>

#include "worker/export/release.h"
#include "worker/export/settings.h"

namespace anneal::exporting {

/// The command line; names are tzrec.export's (parity/train.md 20), the last three are Anneal's own.
struct ExportOptions {
  std::string pipeline_config_path, checkpoint_path, export_dir, asset_files, additional_export_config;
  std::string edit_config_json;
  std::string verify_input_path;  ///< rows to compare on; default eval_input_path, then train_input_path
  std::string item_input_path;    ///< rows for the item tower of a match model; default: those
  SettingFlags settings;
  std::string program = "/proc/self/exe";  ///< the anneal executable, which checks the artefact in a fresh process
  double verify_max_abs_diff = 1e-5;       ///< probabilities are float32 sums of a few hundred terms: 1e-5 is far above
                                           ///< their rounding and far below what a ranking notices
  Destination publish;                     ///< empty: not published
};

/// Writes the artefact, checks it, publishes it. Returns 0; throws Error otherwise, and then nothing is published.
int RunExport(const ExportOptions& options);

}  // namespace anneal::exporting
