// Table-batched lookup and fused Adagrad update: 26 tables of 100,000 x 16, batch 8192, long-tailed ids; the kernel
// variants and thread counts side by side in one run. Prints a table and writes reports/embedding.json beside bin/.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "worker/config/instruction_set.h"
#include "worker/embedding/table_batch.h"

namespace {

using namespace anneal::embedding;  // NOLINT

constexpr int kTables = 26, kBatch = 8192, kRounds = 15;
constexpr int64_t kRows = 100'000, kDim = 16;

struct Variant {
  const char* kernels;
  int threads;
  std::unique_ptr<TableBatch> tables;
  std::vector<double> forward, update;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

template <typename Function>
double Milliseconds(Function function) {
  const auto began = std::chrono::steady_clock::now();
  function();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
}

}  // namespace

int main(int, char** argv) {
  std::mt19937_64 random(1);
  std::vector<int64_t> ids(static_cast<size_t>(kTables) * kBatch), offsets(kBatch + 1);
  for (auto& id : ids) {
    const double u = static_cast<double>(random() >> 11) * 0x1p-53;
    id = std::min<int64_t>(kRows - 1, static_cast<int64_t>(std::pow(static_cast<double>(kRows), u)) - 1);
  }
  for (int b = 0; b <= kBatch; ++b) offsets[b] = b;
  std::vector<Jagged> jagged;
  for (int t = 0; t < kTables; ++t)
    jagged.push_back({ids.data() + static_cast<int64_t>(t) * kBatch, offsets.data(), nullptr});
  std::vector<float> out(static_cast<size_t>(kBatch) * kTables * kDim), gradient(out.size(), 1e-3f);

  std::vector<Variant> variants;
  for (const int threads : {1, 2}) {
    for (const char* kernels : {"scalar", "avx2", "avx512"}) {
      if (!anneal::config::CpuRuns(kernels)) continue;
      setenv("ANNEAL_CPU_KERNELS", kernels, 1);
      std::vector<TableSpec> specs(kTables, {"t", kRows, kDim});
      std::vector<FeatureSpec> features;
      for (int t = 0; t < kTables; ++t) features.push_back({t, Pooling::kSum, t * kDim});
      OptimizerSpec optimizer;
      optimizer.type = OptimizerType::kAdagrad;
      variants.push_back({kernels, threads, MakeCpuTableBatch(specs, features, optimizer, threads), {}, {}});
    }
  }
  // Alternating, so that a busy moment of the machine hits all alike.
  for (int round = 0; round < kRounds + 2; ++round) {
    for (auto& v : variants) {
      const double forward = Milliseconds([&] { v.tables->Forward(jagged, kBatch, out.data(), kTables * kDim); });
      const double update =
          Milliseconds([&] { v.tables->BackwardUpdate(jagged, kBatch, gradient.data(), kTables * kDim, 1.f, 0.01f); });
      if (round < 2) continue;
      v.forward.push_back(forward);
      v.update.push_back(update);
    }
  }
  const double base = Median(variants[0].forward) + Median(variants[0].update);
  nlohmann::json report = nlohmann::json::array();
  std::printf("26 tables x 100,000 x 16, batch 8192, Adagrad; medians of %d rounds\n", kRounds);
  std::printf("%-8s %8s %12s %12s %10s\n", "kernels", "threads", "forward ms", "update ms", "speed-up");
  for (const auto& v : variants) {
    const double forward = Median(v.forward), update = Median(v.update);
    std::printf("%-8s %8d %12.2f %12.2f %10.2f\n", v.kernels, v.threads, forward, update, base / (forward + update));
    report.push_back({{"kernels", v.kernels}, {"threads", v.threads}, {"forward_ms", forward}, {"update_ms", update}});
  }
  const std::filesystem::path folder = std::filesystem::path(argv[0]).parent_path() / "../reports";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "embedding.json") << report.dump(1) << "\n";
}
