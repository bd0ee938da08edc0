#include "worker/export/bench_serve.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "worker/config/error.h"
#include "worker/data/batch_stream.h"
#include "worker/export/assets.h"
#include "worker/export/exported_model.h"
#include "worker/train/checkpoint/safetensors.h"

namespace anneal::exporting {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kRequests = 64;  // different ones, asked in turn
constexpr double kWarmUp = 0.2;   // of the measuring time

/// Requests of one size; the batches hold the memory of the dictionaries.
struct Requests {
  std::vector<std::unique_ptr<data::Batch>> batches;
  std::vector<Tensors> inputs;
};

Requests Prepare(const ExportedModel& model, const tzrec::protos::EasyRecConfig& config,
                 const features::FeatureSet& features, const std::string& rows, int64_t batch_size) {
  data::StreamOptions options;
  options.input_path = rows;
  options.mode = data::Mode::kPredict;
  options.batch_size = batch_size;
  options.num_workers = 1;
  data::BatchStream stream(config, features, options);
  Requests requests;
  while (requests.inputs.size() < kRequests) {
    auto batch = stream.Next();
    if (!batch || batch->rows < batch_size) break;
    requests.inputs.push_back(model.Inputs(*batch, features));
    requests.batches.push_back(std::move(batch));
  }
  if (requests.inputs.empty()) throw DataError(rows + " has fewer than " + std::to_string(batch_size) + " rows");
  return requests;
}

/// Microseconds of each call of one thread.
std::vector<double> Ask(const ExportedModel& model, const Requests& requests, size_t first, double seconds) {
  const c10::InferenceMode no_gradients;
  std::vector<double> times;
  const auto after_seconds = [start = Clock::now()](double wait) {
    return start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(wait));
  };
  const auto warm = after_seconds(seconds * kWarmUp), end = after_seconds(seconds * (1 + kWarmUp));
  for (size_t i = first; Clock::now() < end || times.empty(); ++i) {
    const auto before = Clock::now();
    model.Run(requests.inputs[i % requests.inputs.size()]);
    const auto after = Clock::now();
    if (before >= warm) times.push_back(std::chrono::duration<double, std::micro>(after - before).count());
  }
  return times;
}

nlohmann::ordered_json Measure(const ExportedModel& model, const Requests& requests, int64_t batch_size, int threads,
                               double seconds) {
  std::vector<std::vector<double>> parts(threads);
  std::vector<std::thread> callers;
  for (int t = 0; t < threads; ++t) {
    callers.emplace_back([&, t] { parts[t] = Ask(model, requests, static_cast<size_t>(t) * 7, seconds); });
  }
  for (auto& caller : callers) caller.join();
  std::vector<double> times;
  for (const auto& part : parts) times.insert(times.end(), part.begin(), part.end());
  std::sort(times.begin(), times.end());
  const auto percentile = [&times](double share) {
    return times[std::min(times.size() - 1, static_cast<size_t>(share * static_cast<double>(times.size())))];
  };
  const double rows = static_cast<double>(times.size()) * static_cast<double>(batch_size);
  return {{"batch_size", batch_size},  {"threads", threads},         {"calls", times.size()},
          {"p50_us", percentile(0.5)}, {"p99_us", percentile(0.99)}, {"rows_per_second", rows / seconds}};
}

}  // namespace

int RunBenchServe(const BenchServeOptions& options) {
  for (const int64_t size : options.batch_sizes) {
    if (size < 1) throw ConfigError("--batch_sizes: a batch has at least one row");
  }
  for (const int threads : options.threads) {
    if (threads < 1) throw ConfigError("--threads: at least one thread is needed");
  }
  if (!(options.seconds > 0)) throw ConfigError("--seconds has to be above 0");
  at::set_num_threads(1);
  const auto loaded = LoadExportConfig(options.folder);
  const auto features = features::FeatureSet::FromConfig(loaded.config);
  const std::string rows = options.input_path.empty() ? loaded.config.eval_input_path() : options.input_path;
  const auto model = OpenExport(options.folder, *std::max_element(options.threads.begin(), options.threads.end()));
  nlohmann::ordered_json lines = nlohmann::ordered_json::array();
  std::printf("%10s %8s %12s %12s %14s\n", "batch", "threads", "p50 [us]", "p99 [us]", "rows/s");
  for (const int64_t batch_size : options.batch_sizes) {
    const Requests requests = Prepare(*model, loaded.config, features, rows, batch_size);
    for (const int threads : options.threads) {
      const auto line = Measure(*model, requests, batch_size, threads, options.seconds);
      std::printf("%10ld %8d %12.1f %12.1f %14.0f\n", static_cast<long>(batch_size), threads,
                  line["p50_us"].get<double>(), line["p99_us"].get<double>(), line["rows_per_second"].get<double>());
      std::fflush(stdout);
      lines.push_back(line);
    }
  }
  if (!options.report.empty()) {
    checkpoint::WriteFileSynced(options.report,
                                nlohmann::ordered_json{{"model", options.folder}, {"measurements", lines}}.dump(1));
  }
  return 0;
}

}  // namespace anneal::exporting
