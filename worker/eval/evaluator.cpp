#include "worker/eval/evaluator.h"

#include <c10/core/GradMode.h>

#include <cmath>
#include <exception>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "worker/config/error.h"
#include "worker/eval/trained_model.h"
#include "worker/nn/arithmetic.h"
#include "worker/train/progress/console_progress.h"
#include "worker/train/progress/log.h"
#include "worker/train/progress/step_times.h"

namespace anneal::eval {

namespace {

// Empty where there is no such file yet.
std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

Metrics Evaluate(models::Network& network, embedding::ShardedEmbedding& tables, data::BatchStream& stream,
                 dist::ProcessGroup& group, const EvaluationSettings& settings) {
  nn::Arithmetic::OfProcess().Measure(network.DenseParameters(), stream.batch_size());
  train::StepTimes& times = train::StepTimes::OfProcess();
  MetricSet metrics(network);
  train::ConsoleProgress console(settings.log, 0);
  const data::Batch nothing;
  int64_t batches = 0, rows = 0;
  bool open = true;
  std::exception_ptr fault;  // told when the other ranks, which know nothing of it, have ended as well
  while (settings.num_steps <= 0 || batches < settings.num_steps) {
    std::unique_ptr<data::Batch> batch;
    try {
      if (open) batch = stream.Next();
    } catch (const DataError&) {
      fault = std::current_exception();
    }
    open = batch != nullptr;
    const data::Batch& current = batch ? *batch : nothing;
    times.End(train::Phase::kWait);
    const models::Predictions predictions = Infer(network, tables, current);
    times.End(train::Phase::kForward);
    if (tables.global_rows() == 0) break;
    if (batch) {
      const c10::AutoGradMode no_grad(false);
      metrics.Update(predictions, network.ComputeLosses(predictions, network.MakeTargets(current)), current);
      rows += current.read;
      stream.Recycle(std::move(batch));
    }
    times.EndStep(batches);
    ++batches;
    settings.progress(batches, rows);
    if (settings.log_step_count_steps > 0 && batches % settings.log_step_count_steps == 0 && console.Due(batches)) {
      console.Print("Evaluating" + (settings.description.empty() ? "" : " " + settings.description), batches, "");
    }
  }
  const Metrics result = batches > 0 ? metrics.Compute(group) : Metrics();
  if (fault) std::rethrow_exception(fault);
  return result;
}

std::string ResultLine(const Metrics& metrics, const std::string& description) {
  std::string line = "Eval Result" + (description.empty() ? "" : " " + description) + ":";
  for (const auto& [name, value] : metrics) {
    char text[64];
    std::snprintf(text, sizeof text, "%.6f", value);
    line += " " + name + ":" + text;
  }
  return line;
}

std::string ResultPath(const std::string& model_dir) { return model_dir + "/train_eval_result_v2.txt"; }

bool AppendResult(const std::string& path, int64_t step, const Metrics& metrics) {
  // Written by hand, as Python's json writes it: with blanks, and NaN where a metric has no value.
  std::string text = "{\"global_step\": " + (step >= 0 ? std::to_string(step) : "null");
  const std::map<std::string, double> sorted(metrics.begin(), metrics.end());
  for (const auto& [name, value] : sorted) {
    text += ", " + nlohmann::json(name).dump() + ": " + (std::isfinite(value) ? nlohmann::json(value).dump() : "NaN");
  }
  text += "}\n";
  const std::string before = ReadAll(path);
  if (!before.empty() && before.back() != '\n') text.insert(0, "\n");  // a kill cut the line before
  std::ofstream out(path, std::ios::app);
  out << text;
  return static_cast<bool>(out.flush());
}

std::optional<int64_t> LastResultStep(const std::string& path) {
  std::optional<int64_t> step;
  std::istringstream lines(ReadAll(path));
  for (std::string line; std::getline(lines, line);) {
    long long found = 0;  // no JSON parser reads the NaN that may follow
    if (line.ends_with("}") && std::sscanf(line.c_str(), "{\"global_step\": %lld", &found) == 1) step = found;
  }
  return step;
}

}  // namespace anneal::eval
