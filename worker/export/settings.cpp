#include "worker/export/settings.h"

#include <cstdlib>
#include <optional>

#include "worker/config/error.h"

namespace anneal::exporting {
namespace {

constexpr Format kFormats[] = {Format::kTorchScript, Format::kAot, Format::kAotUnified, Format::kOnnx,
                               Format::kTensorRt,    Format::kRtp, Format::kDistributed};

/// Empty: not set.
std::string Env(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool On(const char* name) {
  const std::string value = Env(name);
  return !value.empty() && value[0] != '0';
}

[[noreturn]] void Contradiction(const std::string& flag, const std::string& value, const std::string& variable) {
  throw ConfigError(flag + " " + value + " contradicts the environment variable " + variable + "; unset one of them");
}

/// The format the environment asks for (precedence: parity/export.md 1 and 3), with the variable that says so.
std::optional<std::pair<Format, std::string>> EnvironmentFormat() {
  const auto found = [](Format format, const char* name) { return std::pair(format, name + ("=" + Env(name))); };
  if (On("USE_RTP")) return found(Format::kRtp, "USE_RTP");
  if (On("USE_DISTRIBUTED_EMBEDDING")) return found(Format::kDistributed, "USE_DISTRIBUTED_EMBEDDING");
  if (On("ENABLE_TRT")) return found(Format::kTensorRt, "ENABLE_TRT");
  if (On("UNIFIED_AOT")) return found(Format::kAotUnified, "UNIFIED_AOT");
  if (!On("ENABLE_AOT")) return std::nullopt;
  const std::string aot = Env("ENABLE_AOT");
  if (aot != "1" && aot != "2") throw ConfigError("environment variable ENABLE_AOT='" + aot + "': one of 0, 1, 2");
  return found(aot == "2" ? Format::kAotUnified : Format::kAot, "ENABLE_AOT");
}

Format ChooseFormat(const std::string& flag) {
  const auto environment = EnvironmentFormat();
  if (flag.empty()) return environment ? environment->first : Format::kTorchScript;
  for (const Format format : kFormats) {
    if (flag != FormatName(format)) continue;
    if (environment && environment->first != format) Contradiction("--format", flag, environment->second);
    return format;
  }
  throw ConfigError("--format '" + flag + "': one of TorchScript, AOT, AOTUnified, ONNX, TensorRT, RTP, Distributed");
}

TableType ChooseType(const char* flag, const std::string& given, const char* variable, TableType otherwise) {
  const std::string text = Env(variable);
  const TableType environment =
      text.empty() ? otherwise : ParseTableType(text, std::string("environment variable ") + variable);
  if (given.empty()) return environment;
  const TableType type = ParseTableType(given, flag);
  if (!text.empty() && environment != type) Contradiction(flag, given, std::string(variable) + "=" + text);
  return type;
}

int TileOf(const std::string& text) { return text[0] == '2' ? 2 : text[0] == '3' ? 3 : 0; }

int ChooseTile(const std::string& flag) {
  const std::string environment = Env("INPUT_TILE");
  const auto check = [](const std::string& where, const std::string& tile) {
    if (!tile.empty() && tile != "0" && tile != "1" && tile != "2" && tile != "3")
      throw ConfigError(where + " '" + tile + "': one of 0, 1, 2, 3");
  };
  check("environment variable INPUT_TILE", environment);
  check("--input_tile", flag);
  if (flag.empty()) return TileOf(environment);
  if (!environment.empty() && TileOf(environment) != TileOf(flag)) {
    Contradiction("--input_tile", flag, "INPUT_TILE=" + environment);
  }
  return TileOf(flag);
}

/// Distributed exports have their own row format and tile embeddings; RTP takes float32 rows.
void SettleTables(Settings& settings, const SettingFlags& flags) {
  const std::string dist = Env("DIST_QUANT");
  if (!dist.empty() && dist != "0" && dist != "NONE" && dist != "INT8") {
    throw ConfigError("environment variable DIST_QUANT='" + dist + "': one of INT8, NONE, 0");
  }
  if (settings.format == Format::kDistributed) {
    if (settings.input_tile == 2 || flags.input_tile == "0") Contradiction("--format", "Distributed", "INPUT_TILE");
    if (!flags.quantization.empty() && flags.quantization != "FP32" && flags.quantization != "INT8") {
      throw ConfigError("--quantization " + flags.quantization + ": a distributed export has INT8 or FP32 rows");
    }
    if (dist == "INT8" && flags.quantization == "FP32") Contradiction("--quantization", "FP32", "DIST_QUANT=INT8");
    if ((dist == "0" || dist == "NONE") && flags.quantization == "INT8") {
      Contradiction("--quantization", "INT8", "DIST_QUANT=" + dist);
    }
    settings.dist_quant = dist == "INT8" || flags.quantization == "INT8";
    settings.input_tile = 3;
  }
  if (settings.format == Format::kRtp) {
    if (!flags.quantization.empty() && flags.quantization != "FP32") {
      throw ConfigError("--quantization " + flags.quantization + ": an RTP export has FP32 rows");
    }
    if (settings.input_tile != 0) throw ConfigError("--input_tile: an RTP export knows no tiling");
  }
  if (settings.format == Format::kDistributed || settings.format == Format::kRtp) settings.pooled = TableType::kFp32;
}

/// Of the first variable that is set.
int64_t Size(std::initializer_list<const char*> names, const char* of, int64_t otherwise) {
  for (const char* name : names) {
    const std::string text = Env(name);
    if (text.empty()) continue;
    if (text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos || std::stoll(text) == 0) {
      throw ConfigError(std::string("environment variable ") + name + "='" + text + "': a number of " + of +
                        " is wanted");
    }
    return std::stoll(text);
  }
  return otherwise;
}

}  // namespace

const char* FormatName(Format format) {
  switch (format) {
    case Format::kAot:
      return "AOT";
    case Format::kAotUnified:
      return "AOTUnified";
    case Format::kOnnx:
      return "ONNX";
    case Format::kTensorRt:
      return "TensorRT";
    case Format::kRtp:
      return "RTP";
    case Format::kDistributed:
      return "Distributed";
    default:
      return "TorchScript";
  }
}

Settings ReadSettings(const SettingFlags& flags) {
  Settings settings;
  settings.format = ChooseFormat(flags.format);
  settings.input_tile = ChooseTile(flags.input_tile);
  settings.pooled = ChooseType("--quantization", flags.quantization, "QUANT_EMB", TableType::kInt8);
  settings.sequence =
      ChooseType("--sequence_quantization", flags.sequence_quantization, "QUANT_EC_EMB", TableType::kFp32);
  SettleTables(settings, flags);
  // It leaves a user's sequences without padding, of which those of one user have none anyway.
  if (On("INPUT_TILE_3_ONLINE") && settings.input_tile != 3) {
    throw ConfigError("environment variable INPUT_TILE_3_ONLINE counts with INPUT_TILE=3 only");
  }

  settings.compiler_python = !flags.compiler_python.empty() ? flags.compiler_python : Env("ANNEAL_COMPILER_PYTHON");
  if (settings.compiler_python.empty()) settings.compiler_python = "python3";
  settings.max_batch = Size({"TRT_MAX_BATCH_SIZE", "MAX_EXPORT_BATCH_SIZE"}, "rows", settings.max_batch);
  settings.max_sequence = Size({"TRT_MAX_SEQ_LEN"}, "positions", settings.max_sequence);
  if (!flags.device.empty()) settings.device = flags.device;
  if (settings.device != "cpu" && settings.device != "cuda") {
    throw ConfigError("--device '" + settings.device + "': one of cpu, cuda");
  }

  const auto say = [&settings](const char* name, const std::string& flag) {
    const std::string text = Env(name);
    if (!text.empty() || !flag.empty()) settings.acceleration.emplace_back(name, text.empty() ? flag : text);
  };
  say("INPUT_TILE", settings.format == Format::kDistributed ? "3" : flags.input_tile);
  say("QUANT_EMB", flags.quantization);
  say("QUANT_EC_EMB", flags.sequence_quantization);
  say("ENABLE_TRT", settings.format == Format::kTensorRt ? "1" : "");
  say("AOTI_AUTOTUNE_WITH_SAMPLE_INPUTS", "");
  say("MAX_EXPORT_BATCH_SIZE", "");
  if (settings.format == Format::kAot) settings.acceleration.emplace_back("ENABLE_AOT", "1");
  if (settings.format == Format::kAotUnified) settings.acceleration.emplace_back("ENABLE_AOT", "2");
  if (settings.dist_quant) settings.acceleration.emplace_back("DIST_QUANT", "INT8");
  if (settings.format == Format::kDistributed) settings.acceleration.emplace_back("DISTRIBUTED_EMBEDDING", "1");
  return settings;
}

}  // namespace anneal::exporting
