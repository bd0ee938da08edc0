#include "worker/nn/arithmetic.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/GradMode.h>
#include <time.h>
#include <torch/version.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>
#include <string_view>

#include "worker/config/environment.h"
#include "worker/config/error.h"
#include "worker/nn/matrix_kernels.h"

namespace anneal::nn {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 4> kNames = {"stock", "transposed", "onednn", "blocked"};
constexpr int kRounds = 3;
/// Seconds of turns that are enough: a new pod's first step waits for them.
constexpr double kEnough = 0.006;
/// With 1024 rows, which fit a cache, the kernels ranked otherwise than with 8192: that cost more than what single
/// turns make uncertain.
constexpr int64_t kMeasuredRows = 2048;

constexpr std::string_view kRepeated = "repeated";
constexpr double kNever = std::numeric_limits<double>::infinity();

/// The same for all layers; a word for it in the environment and in a checkpoint.
LinearKernels All(Gemm gemm) { return {gemm, gemm, gemm}; }
std::optional<LinearKernels> AllOf(std::string_view word) {
  if (word == "onednn") return All(Gemm::kOneDnn);
  if (word == "blocked" || word == kRepeated) return All(Gemm::kBlocked);
  return std::nullopt;
}

using PointwiseSignature = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                      std::string_view, c10::List<std::optional<at::Scalar>>,
                                      std::optional<std::string_view>);

/// LibTorch's oneDNN linear layer.
at::Tensor OneDnnLinear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<PointwiseSignature>();
  return op.call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

std::string Variable(const char* name) {
  const char* text = std::getenv(name);
  return text ? text : "";
}

/// CPU time of the process: on a busy machine wall time would measure the others.
double CpuSeconds() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double Seconds(const std::function<void()>& work) {
  const double began = CpuSeconds();
  work();
  return CpuSeconds() - began;
}

Gemm Fastest(const std::map<Gemm, double>& seconds) {
  return std::min_element(seconds.begin(), seconds.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

/// How long each candidate takes. They take turns, so that what else the machine does hits all of them alike: one,
/// several where it is short, easily disturbed and oneDNN's making of a kernel would count. The best turn counts.
std::map<Gemm, double> Time(std::initializer_list<Gemm> candidates, const std::function<void(Gemm)>& product) {
  std::map<Gemm, double> seconds;
  double least = 0;
  for (int round = 0; round < kRounds && round * least < kEnough; ++round) {
    for (const Gemm candidate : candidates) {
      const double turn = Seconds([&] { product(candidate); });
      const auto [found, first] = seconds.try_emplace(candidate, turn);
      if (!first) found->second = std::min(found->second, turn);
    }
    least = seconds.at(Fastest(seconds));
  }
  return seconds;
}

LinearKernels MeasureLayer(int64_t out, int64_t in, int64_t rows) {
  const c10::AutoGradMode no_grad(false);
  const at::Tensor x = at::ones({rows, in}), weight = at::ones({out, in}), bias = at::ones({out}),
                   g = at::ones({rows, out}), y = at::ones({rows, out});
  // Memory that results and copies find there: its first touch is nobody's turn.
  at::ones({rows + 2 * out, in + out});
  std::vector<float>(rows * (in + out), 1.0f);
  LinearKernels best;
  best.forward = Fastest(Time({Gemm::kStock, Gemm::kOneDnn, Gemm::kBlocked},
                              [&](Gemm kernel) { LinearKernels{kernel}.Forward(x, weight, bias, true); }));
  const auto of_input = Time({Gemm::kStock, Gemm::kOneDnn}, [&](Gemm kernel) {
    LinearKernels{Gemm::kStock, kernel}.InputGradient(g, weight);
  });
  const auto of_weight = Time({Gemm::kStock, Gemm::kTransposed, Gemm::kOneDnn}, [&](Gemm kernel) {
    LinearKernels{Gemm::kStock, Gemm::kStock, kernel}.WeightGradient(g, x);
  });
  best.input_gradient = Fastest(of_input);
  best.weight_gradient = Fastest(of_weight);
  // LibTorch's best against ours, with the mask of ReLU and the bias's gradient, which ours does on the way.
  const auto around = Time({Gemm::kStock}, [&](Gemm) {
    at::Tensor masked = OwnGradient(g);
    at::threshold_backward_out(masked, masked, y, 0);
    masked.sum(0);
  });
  const LinearKernels blocked{best.forward, Gemm::kBlocked, Gemm::kBlocked};
  const auto ours = Time({Gemm::kBlocked}, [&](Gemm) { blocked.Backward(g, y, x, weight, true, true); });
  const double libraries =
      of_input.at(best.input_gradient) + of_weight.at(best.weight_gradient) + around.at(Gemm::kStock);
  return ours.at(Gemm::kBlocked) < libraries ? blocked : best;
}

/// Of Arithmetic::sum_cost_, with one decimal: rows of products as a batch of 26 features picks them, some often, most
/// now and then, out of more than the second cache holds.
double MeasureSums() {
  const MatrixKernels& kernels = ChooseMatrixKernels();
  constexpr int64_t kBand = MatrixKernels::kBand, kPicks = 26, kBatch = 2048, kTable = 40000, kDeep = 64;
  const at::Tensor table = at::ones({kTable, kBand}), x = at::ones({kBatch, kDeep});
  const at::Tensor index = (at::rand({kBatch, kPicks}).square() * kTable).to(at::kInt).clamp_max(kTable - 1);
  at::Tensor y = at::zeros({kBatch, kBand}), panels = at::ones({kernels.panels_size(kDeep, kBand)});
  double sums = kNever, products = kNever;
  for (int round = 0; round < kRounds; ++round) {
    const double began = CpuSeconds();
    kernels.add_rows(table.const_data_ptr<float>(), index.const_data_ptr<int32_t>(), kPicks, kBatch, true,
                     y.data_ptr<float>(), kBand);
    const double half = CpuSeconds();
    kernels.multiply(x.const_data_ptr<float>(), kDeep, kBatch, panels.const_data_ptr<float>(), kDeep, kBand, nullptr,
                     true, y.data_ptr<float>(), kBand);
    sums = std::min(sums, half - began);
    products = std::min(products, CpuSeconds() - half);
  }
  return std::max(0.1, std::round(10 * (sums / kPicks) / (products / kDeep)) / 10);
}

std::string CpuModel() {
  std::ifstream in("/proc/cpuinfo");
  std::string line, model;
  for (const char* field : {"model name", "model\t", "cpu family"}) {
    in.clear();
    in.seekg(0);
    while (std::getline(in, line)) {
      if (line.rfind(field, 0) != 0) continue;
      model += line.substr(line.find(':') + 1);
      break;
    }
  }
  return model;
}

/// Where choices of this machine for batches of `rows` rows are kept; empty when there is no place.
fs::path CacheFile(int64_t rows) {
  const std::string cache = Variable("XDG_CACHE_HOME"), home = Variable("HOME");
  if (cache.empty() && home.empty()) return {};
  const fs::path folder = cache.empty() ? fs::path(home) / ".cache" : fs::path(cache);
  std::string key = CpuModel() + " torch-" TORCH_VERSION " " + ChooseMatrixKernels().name + " threads-" +
                    std::to_string(at::get_num_threads()) + " rows-" + std::to_string(rows);
  std::replace_if(
      key.begin(), key.end(), [](unsigned char c) { return !std::isalnum(c) && c != '-'; }, '_');
  return folder / "anneal" / ("kernels" + key);
}

using Shape = std::pair<int64_t, int64_t>;
struct Kernels {
  std::map<Shape, LinearKernels> of_shapes;
  double sum_cost = kNever;
};

std::string KernelsText(const Kernels& kernels) {
  std::ostringstream sums;
  if (kernels.sum_cost != kNever) sums << "sum:" << kernels.sum_cost;
  std::string text = sums.str();
  for (const auto& [shape, of_shape] : kernels.of_shapes) {
    text += (text.empty() ? "" : " ") + std::to_string(shape.first) + "x" + std::to_string(shape.second) + ":";
    const char* separator = "";
    for (const Gemm gemm : {of_shape.forward, of_shape.input_gradient, of_shape.weight_gradient}) {
      text += separator + std::string(kNames[static_cast<int>(gemm)]);
      separator = ",";
    }
  }
  return text;
}

/// Throws DataError for what KernelsText does not write.
Kernels ParseKernels(const std::string& text) {
  Kernels kernels;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (word.rfind("sum:", 0) == 0) {
      const auto [end, error] = std::from_chars(word.data() + 4, word.data() + word.size(), kernels.sum_cost);
      if (error != std::errc() || end != word.data() + word.size() ||
          !(kernels.sum_cost > 0 && std::isfinite(kernels.sum_cost)))
        throw DataError("kernels '" + word + "': not sum:<positive number>");
      continue;
    }
    long long out = 0, in = 0;
    char names[3][16] = {};
    int length = 0;
    if (std::sscanf(word.c_str(), "%9lldx%9lld:%15[a-z],%15[a-z],%15[a-z]%n", &out, &in, names[0], names[1], names[2],
                    &length) != 5 ||
        static_cast<size_t>(length) != word.size() || out < 1 || in < 1) {
      throw DataError("kernels '" + word + "': not <out>x<in>:<kernel>,<kernel>,<kernel>");
    }
    std::array<Gemm, 3> gemms;
    for (int i = 0; i < 3; ++i) {
      const auto found = std::find(kNames.begin(), kNames.end(), std::string_view(names[i]));
      if (found == kNames.end()) throw DataError("kernels '" + word + "': there is no kernel '" + names[i] + "'");
      gemms[i] = static_cast<Gemm>(found - kNames.begin());
    }
    if (gemms[0] == Gemm::kTransposed || gemms[1] == Gemm::kTransposed)
      throw DataError("kernels '" + word + "': 'transposed' is for the weight gradient");
    if ((gemms[1] == Gemm::kBlocked) != (gemms[2] == Gemm::kBlocked))
      throw DataError("kernels '" + word + "': 'blocked' is for both gradients or for none");
    kernels.of_shapes[{out, in}] = {gemms[0], gemms[1], gemms[2]};
  }
  return kernels;
}

}  // namespace

at::Tensor LinearKernels::Forward(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                                  bool relu) const {
  if (forward == Gemm::kBlocked) return BlockedForward(x, weight, bias, relu);
  // oneDNN's own ReLU would make 0 of NaN, and a model that went wrong look well.
  at::Tensor y = forward == Gemm::kOneDnn ? OneDnnLinear(x, weight, bias) : at::linear(x, weight, bias);
  return relu ? y.relu_() : y;
}

LinearGradients LinearKernels::Backward(at::Tensor g, const at::Tensor& relu_output, const at::Tensor& x,
                                        const at::Tensor& weight, bool want_x, bool want_bias) const {
  const bool blocked = weight_gradient == Gemm::kBlocked, relu = relu_output.defined();
  if (!relu) {
    g = g.contiguous();
  } else {
    g = OwnGradient(std::move(g));
    if (!blocked) at::threshold_backward_out(g, g, relu_output, 0);
  }
  if (blocked) return BlockedBackward(g, relu_output, x, weight, want_x, want_bias);
  LinearGradients gradients;
  if (want_x) gradients.x = InputGradient(g, weight);
  if (want_bias) gradients.bias = g.sum(0);
  gradients.weight = WeightGradient(g, x);
  return gradients;
}

at::Tensor LinearKernels::InputGradient(const at::Tensor& g, const at::Tensor& weight) const {
  return input_gradient == Gemm::kOneDnn ? OneDnnLinear(g, weight.t().contiguous(), {}) : at::mm(g, weight);
}

at::Tensor LinearKernels::WeightGradient(const at::Tensor& g, const at::Tensor& x) const {
  switch (weight_gradient) {
    case Gemm::kOneDnn:
      return OneDnnLinear(g.t(), x.t(), {});
    case Gemm::kTransposed:
      return at::mm(x.t(), g).t().contiguous();
    case Gemm::kStock:
    case Gemm::kBlocked:
      break;
  }
  return at::mm(g.t(), x);
}

Arithmetic& Arithmetic::OfProcess() {
  static Arithmetic arithmetic;
  return arithmetic;
}

Arithmetic::Arithmetic() {
  const std::string asked = Variable("ANNEAL_LINEAR");
  const bool deterministic = config::EnvironmentInt("USE_DETERMINISTIC_ALGORITHMS", 0, 0, 1) == 1;
  const std::optional<LinearKernels> all = AllOf(asked);
  if (asked != "" && asked != "stock" && !all) {
    throw ConfigError("environment variable ANNEAL_LINEAR='" + asked + "': one of stock, onednn, blocked, repeated");
  }
  reference_ = asked == "stock" || (asked.empty() && deterministic);
  forced_ = reference_ || all;
  default_ = all.value_or(LinearKernels{});
  if (asked == kRepeated) sum_cost_ = 0;
}

bool Arithmetic::computes_repeated() const { return !reference_ && sum_cost_ != kNever; }

bool Arithmetic::PaysToRepeat(int64_t width, int64_t distinct, int64_t rows) const {
  if (!computes_repeated()) return false;
  return static_cast<double>(width) * (1 - static_cast<double>(distinct) / static_cast<double>(rows)) > sum_cost_;
}

const LinearKernels& Arithmetic::Find(int64_t out, int64_t in) const {
  const auto found = kernels_.find({out, in});
  return found == kernels_.end() ? default_ : found->second;
}

void Arithmetic::Measure(const std::vector<NamedTensor>& parameters, int64_t rows) {
  // What was measured, or what a checkpoint says, stays for the life of the process.
  if (forced_ || !ToText().empty()) return;
  rows = std::min(rows, kMeasuredRows);
  const fs::path cache = CacheFile(rows);
  Kernels cached;  // of other models, too
  std::error_code ignored;
  if (fs::is_regular_file(cache, ignored)) {
    std::stringstream text;
    text << std::ifstream(cache).rdbuf();
    try {
      cached = ParseKernels(text.str());
    } catch (const DataError&) {  // measured anew and replaced
    }
  }
  bool measured = cached.sum_cost == kNever, warm = false;
  if (measured) cached.sum_cost = MeasureSums();
  sum_cost_ = cached.sum_cost;
  for (const auto& [name, parameter] : parameters) {
    if (parameter.dim() != 2 || !name.ends_with(".weight")) continue;  // no linear layer's: a transducer's tables
    const Shape shape{parameter.size(0), parameter.size(1)};
    const auto [found, unknown] = cached.of_shapes.try_emplace(shape);
    measured |= unknown;
    if (unknown) {
      if (!std::exchange(warm, true)) MeasureLayer(32, 32, 32);  // how libraries start is nobody's turn
      found->second = MeasureLayer(shape.first, shape.second, rows);
    }
    kernels_[shape] = found->second;
  }
  if (!measured || cache.empty()) return;
  // Whole or not at all; a folder that cannot be written costs a measurement at the next start, nothing else.
  fs::create_directories(cache.parent_path(), ignored);
  const fs::path fresh = cache.string() + "." + std::to_string(::getpid());
  std::ofstream out(fresh);
  out << KernelsText(cached);
  out.close();
  if (out) fs::rename(fresh, cache, ignored);
  fs::remove(fresh, ignored);
}

std::string Arithmetic::ToText() const {
  if (reference_) return "reference";
  if (sum_cost_ == 0) return std::string(kRepeated);
  if (default_.forward != Gemm::kStock) return kNames[static_cast<int>(default_.forward)];
  return KernelsText({kernels_, sum_cost_});
}

void Arithmetic::FromText(const std::string& text) {
  const auto all = AllOf(text);
  Kernels kernels;
  if (!all && text != "reference") kernels = ParseKernels(text);
  reference_ = text == "reference";
  default_ = all.value_or(LinearKernels{});
  kernels_ = std::move(kernels.of_shapes);
  sum_cost_ = text == kRepeated ? 0 : kernels.sum_cost;
}

}  // namespace anneal::nn
