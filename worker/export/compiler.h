// The compiler of exported models is the Python side of torch: AOTInductor and the ONNX exporter have no other.
// compiler/*.py are part of the program; a Python with torch of LibTorch's version has to be on the machine.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "worker/eval/trained_model.h"
#include "worker/export/settings.h"

namespace anneal::exporting {

/// Runs compile.py with one of its tasks ("dense_package", "whole_package", "onnx") or onnx_tools.py with one of its
/// own
/// ("run_onnx", "tensorrt") on `spec`, in a process. `python`: the interpreter (--compiler_python). Throws ConfigError
/// when it cannot be started, lacks a package or has another torch, Error with its last lines when it fails.
void RunCompiler(const std::string& python, const std::string& task, nlohmann::json spec);

/// TF32 of compiled CUDA code.
struct Tf32 {
  bool matmul = false, cudnn = true;  ///< LibTorch's own defaults
};

/// What export_config says, else train_config (parity/export.md 1). `warn` hears of each field in which they differ.
Tf32 Tf32Of(const tzrec::protos::EasyRecConfig& config, const std::function<void(const std::string&)>& warn = nullptr);

/// What compile.py has to know of a model whose scripted parts lie in the file `module`.
nlohmann::json CompilerSpec(eval::TrainedModel& model, const Settings& settings, const std::string& module,
                            const std::string& output);

}  // namespace anneal::exporting
