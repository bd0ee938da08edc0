#include "worker/export/verify.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/export/assets.h"
#include "worker/export/child_process.h"
#include "worker/export/compiler.h"
#include "worker/export/dist_rows.h"
#include "worker/export/exported_model.h"
#include "worker/train/checkpoint/safetensors.h"

namespace anneal::exporting {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Calls use(batch) for the first batches, and counts them and their rows.
template <typename Use>
Answers EachBatch(data::BatchStream& stream, int64_t batches, Use use) {
  Answers counted;
  for (; counted.batches < batches; ++counted.batches) {
    auto batch = stream.Next();
    if (!batch) break;
    use(*batch);
    counted.rows += batch->rows;
    stream.Recycle(std::move(batch));
  }
  if (counted.rows == 0) throw DataError("there are no rows to verify the export on");
  return counted;
}

/// Runs `predict` over the first batches.
template <typename Predict>
Answers Collect(data::BatchStream& stream, int64_t batches, Predict predict) {
  std::map<std::string, std::vector<at::Tensor>> parts;
  Answers answers = EachBatch(stream, batches, [&](const data::Batch& batch) {
    const models::Predictions predictions = predict(batch);
    for (const auto& [name, value] : predictions.values) parts[name].push_back(value.clone());
    if (predictions.candidates.defined())
      parts[models::kCandidatesOfRows].push_back(predictions.candidates.to(at::kFloat));
  });
  for (const auto& [name, values] : parts) answers.values.emplace_back(name, at::cat(values, 0));
  return answers;
}

void Write(const std::vector<std::pair<std::string, at::Tensor>>& values, const std::string& path) {
  std::vector<at::Tensor> kept;
  std::vector<checkpoint::TensorView> views;
  for (const auto& [name, value] : values) {
    const bool integer = value.scalar_type() == at::kLong;
    kept.push_back((integer ? value : value.to(at::kFloat)).contiguous());
    views.push_back({name, integer ? checkpoint::DType::kI64 : checkpoint::DType::kF32, kept.back().sizes().vec(),
                     kept.back().const_data_ptr()});
  }
  checkpoint::WriteSafetensors(path, views);
}

Answers Read(const std::string& path) {
  const checkpoint::SafetensorsFile file(path);
  Answers answers;
  for (const auto& [name, view] : file.tensors()) {
    const bool integer = view.dtype == checkpoint::DType::kI64;
    if ((!integer && view.dtype != checkpoint::DType::kF32) || view.shape.empty()) {
      throw DataError(path + ": '" + name + "' is no float32 or int64 output of rows");
    }
    const auto type = integer ? at::kLong : at::kFloat;
    answers.values.emplace_back(name, at::from_blob(const_cast<void*>(view.data), view.shape, type).clone());
  }
  if (answers.values.empty()) throw DataError(path + " holds no outputs");
  return answers;
}

/// What ONNX Runtime makes of batches, whose lookups the sparse part did. A process for all of them, each batch in a
/// file of its own: their sequences are padded to other lengths.
class OnnxRuntime {
 public:
  explicit OnnxRuntime(const VerifyOptions& options) : options_(options), sparse_(OpenSparsePart(options.folder)) {}
  ~OnnxRuntime() {
    std::error_code ignored;
    for (const std::string& path : inputs_) fs::remove(path, ignored);
    fs::remove(output(), ignored);
  }

  void Add(const data::Batch& batch, const features::FeatureSet& features) {
    inputs_.push_back(options_.report + ".boundary-" + std::to_string(inputs_.size()));
    Write(sparse_->Predict(batch, features).values, inputs_.back());
  }

  /// Of the batches' rows one after the other.
  std::vector<std::pair<std::string, at::Tensor>> Run() const {
    RunCompiler(options_.compiler_python, "run_onnx",
                {{"onnx", options_.folder + "/dense.onnx"}, {"inputs", inputs_}, {"output", output()}});
    return Read(output()).values;
  }

 private:
  std::string output() const { return options_.report + ".outputs"; }

  const VerifyOptions& options_;
  const std::unique_ptr<ExportedModel> sparse_;
  std::vector<std::string> inputs_;
};

}  // namespace

data::BatchStream OpenRows(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
                           const std::string& path, data::Mode mode) {
  data::StreamOptions options;
  options.input_path = path;
  options.mode = mode;
  options.num_workers = 1;
  return data::BatchStream(config, features, options);
}

Answers Ask(eval::TrainedModel& model, const std::string& input_path, int64_t batches) {
  data::BatchStream stream = OpenRows(model.config(), model.features(), input_path);
  return Collect(stream, batches, [&model](const data::Batch& batch) { return model.Predict(batch); });
}

Difference Compare(const Answers& a, const Answers& b) {
  Difference difference;
  double sum = 0, count = 0;
  if (a.values.size() != b.values.size())
    throw Error(ExitCode::kInternal, "the exported model has other outputs than the trained one");
  for (size_t i = 0; i < a.values.size(); ++i) {
    const auto& [name, left] = a.values[i];
    const auto& [other, right] = b.values[i];
    if (name != other || left.sizes() != right.sizes()) {
      throw Error(ExitCode::kInternal,
                  "output " + name + " of the exported model has another name or shape than the trained one's");
    }
    const at::Tensor x = left.to(at::kDouble), y = right.to(at::kDouble);
    // A NaN on one side only compares as no difference at all: it is the largest one.
    if (at::isnan(x).ne(at::isnan(y)).any().item<bool>()) difference.max = std::numeric_limits<double>::infinity();
    at::Tensor apart = at::nan_to_num((x - y).abs(), 0.0);
    // Numbers of a vector may be of any size, and float32 rounds the large ones.
    if (left.dim() > 1 && name.ends_with("_tower_emb"))
      apart = apart / at::nan_to_num(x.abs(), 0.0).max().clamp_min(1.0);
    difference.max = std::max(difference.max, apart.max().item<double>());
    sum += apart.sum().item<double>();
    count += static_cast<double>(apart.numel());
  }
  difference.mean = std::isinf(difference.max) ? difference.max : sum / std::max(count, 1.0);
  return difference;
}

void RoundTables(eval::TrainedModel& model, const Settings& settings) {
  for (const auto& shard : model.embedding().weights()) {
    at::Tensor weights = at::from_blob(shard.data, {shard.rows, shard.dim}, at::kFloat);
    const TableType type = TypeOf(shard.kind, settings);
    weights.copy_(settings.dist_quant ? UnpackDistRows(PackDistRows(weights, shard.name))
                                      : UnpackTable(PackTable(weights, type, shard.name), type));
  }
}

int RunVerify(const VerifyOptions& options) {
  const auto loaded = LoadExportConfig(options.folder);
  const auto features = features::FeatureSet::FromConfig(loaded.config);
  const Answers expected = Read(options.expected);
  const auto rows = std::find_if(expected.values.begin(), expected.values.end(),
                                 [](const auto& answer) { return answer.first == models::kCandidatesOfRows; });
  const int64_t wanted = (rows == expected.values.end() ? expected.values.begin() : rows)->second.size(0);
  data::BatchStream stream = OpenRows(loaded.config, features, options.input_path);
  const int64_t batches = (wanted + stream.batch_size() - 1) / stream.batch_size();
  Answers got;
  if (fs::exists(options.folder + "/dense.onnx")) {
    OnnxRuntime runtime(options);
    got = EachBatch(stream, batches, [&](const data::Batch& batch) { runtime.Add(batch, features); });
    got.values = runtime.Run();
  } else {
    const auto model = OpenExport(options.folder);
    got = Collect(stream, batches, [&](const data::Batch& batch) { return model->Predict(batch, features); });
  }
  const Difference difference = Compare(expected, got);
  // JSON has no infinity.
  const auto number = [](double value) { return std::isfinite(value) ? json(value) : json("inf"); };
  checkpoint::WriteFileSynced(options.report, json{{"max_abs_diff", number(difference.max)},
                                                   {"mean_abs_diff", number(difference.mean)},
                                                   {"batches", got.batches},
                                                   {"rows", got.rows}}
                                                  .dump(1));
  return 0;
}

Difference VerifyInFreshProcess(const std::string& program, const std::string& folder, const std::string& input_path,
                                const Answers& expected, const std::string& compiler_python) {
  const std::string answers = folder + ".expected.safetensors", report = folder + ".verify.json";
  fs::remove(report);
  Write(expected.values, answers);
  const ChildResult child = RunChild({program, "verify-export", folder, "--input_path", input_path, "--expected",
                                      answers, "--report", report, "--compiler_python", compiler_python});
  fs::remove(answers);
  if (child.status != 0) throw Error(ExitCode::kInternal, "a fresh process cannot run the export: " + child.last_lines);
  const json result = json::parse(std::ifstream(report));
  fs::remove(report);
  const auto number = [&result](const char* name) {
    return result[name].is_number() ? result[name].get<double>() : std::numeric_limits<double>::infinity();
  };
  return {number("max_abs_diff"), number("mean_abs_diff")};
}

}  // namespace anneal::exporting
