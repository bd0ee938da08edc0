#include "worker/export/compiled.h"

#include <torch/csrc/jit/api/module.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "worker/export/compiler.h"
#include "worker/export/torchscript.h"
#include "worker/train/checkpoint/safetensors.h"
#include "worker/train/progress/log.h"

namespace anneal::exporting {
namespace {

namespace fs = std::filesystem;

/// The scripted parts in a file of their own, for the compiler; removed when it is done.
class Workpiece {
 public:
  Workpiece(const ScriptedParts& parts, const std::string& folder) : path_(folder + ".compiling.pt") {
    SaveModule(parts.root, path_);
  }
  ~Workpiece() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

void Compile(eval::TrainedModel& model, const Settings& settings, const ScriptedParts& parts, const std::string& task,
             const std::string& folder, const std::string& output) {
  const Workpiece work(parts, folder);
  fs::create_directories(fs::path(folder + output).parent_path());
  LogInfo("Compiling the model for " + settings.device);
  RunCompiler(settings.compiler_python, task, CompilerSpec(model, settings, work.path(), folder + output));
}

/// The sparse part and the graphs of a split model. Returns the dense part.
ScriptedParts Split(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
                    const std::string& folder) {
  WriteSparsePart(model, sample, settings, folder);
  ScriptedParts dense = BuildModule(model, sample, settings, {.tables = false, .dense = true});
  checkpoint::WriteFileSynced(folder + "/graph/gm_full.graph",
                              dense.lookup_source.substr(1) + "\n" + DenseGraph(dense));
  return dense;
}

}  // namespace

void WriteAot(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
              const std::string& folder) {
  const ScriptedParts dense = Split(model, sample, settings, folder);
  Compile(model, settings, dense, "dense_package", folder, "/aoti/aoti_model.pt2");
}

void WriteAotUnified(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
                     const std::string& folder) {
  const ScriptedParts whole = BuildModule(model, sample, settings);
  checkpoint::WriteFileSynced(folder + "/gm.code",
                              whole.lookup_source.substr(1) + "\n# dense_forward, traced\n" + DenseGraph(whole));
  Compile(model, settings, whole, "whole_package", folder, "/aoti/aoti_model.pt2");
}

void WriteOnnx(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
               const std::string& folder) {
  const ScriptedParts dense = Split(model, sample, settings, folder);
  checkpoint::WriteFileSynced(folder + "/gm_dense.code", DenseGraph(dense));
  Compile(model, settings, dense, "onnx", folder, "/dense.onnx");
}

void WriteEngine(const eval::TrainedModel& model, const Settings& settings, const std::string& folder) {
  RunCompiler(settings.compiler_python, "tensorrt",
              {{"onnx", folder + "/dense.onnx"},
               {"output", folder + "/dense.engine"},
               {"max_batch", settings.max_batch},
               {"max_sequence", settings.max_sequence},
               {"precision", model.config().export_config().mixed_precision()},
               {"tf32", Tf32Of(model.config()).matmul}});
}

}  // namespace anneal::exporting
