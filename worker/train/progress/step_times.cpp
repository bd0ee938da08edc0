#include "worker/train/progress/step_times.h"

#include <time.h>

#include <cstdlib>
#include <string>

#include "worker/data/reader_times.h"
#include "worker/train/progress/log.h"

namespace anneal::train {
namespace {

double Milliseconds(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

}  // namespace

StepTimes::Clocks StepTimes::Now() {
  return {Milliseconds(CLOCK_MONOTONIC), Milliseconds(CLOCK_THREAD_CPUTIME_ID), Milliseconds(CLOCK_PROCESS_CPUTIME_ID)};
}

StepTimes& StepTimes::OfProcess() {
  static StepTimes times;
  return times;
}

StepTimes::StepTimes() {
  const char *path = std::getenv("ANNEAL_STEP_TIMES"), *rank = std::getenv("RANK");
  if (!path || !*path || (rank && std::string(rank) != "0")) return;
  file_.reset(std::fopen(path, "we"));
  if (!file_) {
    LogWarning(std::string("environment variable ANNEAL_STEP_TIMES: cannot write ") + path);
    return;
  }
  std::fputs("step,wait,lookup,forward,backward,sparse_update,dense_update,rest,wall,process_cpu,read,features,at\n",
             file_.get());
  last_ = step_began_ = Now();
}

void StepTimes::End(Phase phase) {
  if (!file_) return;
  const Clocks now = Now();
  phases_[static_cast<int>(phase)] += phase == Phase::kWait ? now.wall - last_.wall : now.thread - last_.thread;
  last_ = now;
}

void StepTimes::EndStep(int64_t step) {
  if (!file_) return;
  End(Phase::kRest);
  const data::ReaderTimes& readers = data::ReaderTimesOfProcess();
  const double read = 1e3 * readers.read, features = 1e3 * readers.features;
  std::fprintf(file_.get(), "%lld", static_cast<long long>(step));
  for (double& phase : phases_) {
    std::fprintf(file_.get(), ",%.3f", phase);
    phase = 0;
  }
  std::fprintf(file_.get(), ",%.3f,%.3f,%.3f,%.3f,%.6f\n", last_.wall - step_began_.wall,
               last_.process - step_began_.process, read - read_, features - features_,
               1e-3 * Milliseconds(CLOCK_REALTIME));
  std::fflush(file_.get());  // a run that is killed keeps its lines
  step_began_ = last_;
  read_ = read;
  features_ = features;
}

}  // namespace anneal::train
