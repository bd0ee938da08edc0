#include "worker/train/profiler.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/profiler_kineto.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <set>

#include "worker/train/progress/log.h"

namespace anneal::train {
namespace {

namespace profiler = torch::autograd::profiler;

constexpr int kWait = 1, kWarmUp = 1, kActive = 10;

const std::set<torch::profiler::impl::ActivityType>& Activities() {
  static const std::set<torch::profiler::impl::ActivityType> activities{torch::profiler::impl::ActivityType::CPU};
  return activities;
}

torch::profiler::impl::ProfilerConfig Config() {
  return torch::profiler::impl::ProfilerConfig(torch::profiler::impl::ProfilerState::KINETO,
                                               /*report_input_shapes=*/true, /*profile_memory=*/true,
                                               /*with_stack=*/true);
}

}  // namespace

StepProfiler::StepProfiler(bool enabled, const std::string& folder) : enabled_(enabled), folder_(folder) {}

StepProfiler::~StepProfiler() = default;

void StepProfiler::MarkStep() {
  step_ = std::make_unique<at::RecordFunction>(at::RecordScope::USER_SCOPE);
  if (step_->isActive()) step_->before("ProfilerStep#" + std::to_string(steps_));
}

void StepProfiler::FinishStep() {
  if (!enabled_) return;
  step_.reset();
  ++steps_;
  if (steps_ == kWait) profiler::prepareProfiler(Config(), Activities());
  if (steps_ == kWait + kWarmUp) {
    profiler::enableProfiler(Config(), Activities());
    recording_ = true;
  }
  if (steps_ == kWait + kWarmUp + kActive) return Finish();
  if (recording_) MarkStep();
}

void StepProfiler::Finish() {
  step_.reset();
  enabled_ = false;
  if (!recording_) return;
  recording_ = false;
  const auto result = profiler::disableProfiler();
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  char host[256] = "localhost";
  ::gethostname(host, sizeof host - 1);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::string path = folder_ + "/" + host + "_" + std::to_string(::getpid()) + "." +
                           std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(now).count()) +
                           ".pt.trace.json";
  result->save(path);
  LogInfo("Profiler trace: " + path);
}

}  // namespace anneal::train
