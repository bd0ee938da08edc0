// What an export is to be: command line and TorchEasyRec's environment variables, read once and checked against each
// other (parity/export.md 7-9, 14).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "worker/embedding/lookup_input.h"
#include "worker/export/table_type.h"

namespace anneal::exporting {

enum class Format { kTorchScript, kAot, kAotUnified, kOnnx, kTensorRt, kRtp, kDistributed };

/// As --format and ExportJob's spec.format say it: TorchScript, AOT, AOTUnified, ONNX, TensorRT, RTP, Distributed.
const char* FormatName(Format format);

/// The command line's side; empty: not given, the environment decides.
struct SettingFlags {
  std::string format, quantization, sequence_quantization, input_tile, compiler_python, device;
};

struct Settings {
  Format format = Format::kTorchScript;
  TableType pooled = TableType::kInt8;    ///< QUANT_EMB: on by default
  TableType sequence = TableType::kFp32;  ///< QUANT_EC_EMB: off by default
  bool dist_quant = false;                ///< DIST_QUANT=INT8, of distributed exports
  int input_tile = 0;                     ///< 0, 2 or 3
  std::string compiler_python;            ///< Python with torch: compiles AOT and ONNX models; default python3
  int64_t max_batch = 512;                ///< of a TensorRT engine: TRT_MAX_BATCH_SIZE, else MAX_EXPORT_BATCH_SIZE
  int64_t max_sequence = 100;             ///< likewise, positions of a sequence: TRT_MAX_SEQ_LEN
  std::string device = "cpu";             ///< what AOT packages are compiled for: cpu or cuda
  /// What model_acc.json says of the above, in its order: the environment's own text where it is set.
  std::vector<std::pair<std::string, std::string>> acceleration;
};

/// What the tables of a kind are packed as.
inline TableType TypeOf(embedding::LookupKind kind, const Settings& settings) {
  return kind == embedding::LookupKind::kPooled ? settings.pooled : settings.sequence;
}

/// A flag wins over an unset variable; a flag and a variable that say different things are a ConfigError that names
/// both. Variables: ENABLE_AOT, UNIFIED_AOT, ENABLE_TRT, USE_RTP, USE_DISTRIBUTED_EMBEDDING, QUANT_EMB, QUANT_EC_EMB,
/// DIST_QUANT, INPUT_TILE, INPUT_TILE_3_ONLINE, MAX_EXPORT_BATCH_SIZE, AOTI_AUTOTUNE_WITH_SAMPLE_INPUTS,
/// TRT_MAX_BATCH_SIZE, TRT_MAX_SEQ_LEN, and Anneal's own ANNEAL_COMPILER_PYTHON.
Settings ReadSettings(const SettingFlags& flags);

}  // namespace anneal::exporting
