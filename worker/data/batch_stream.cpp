#include "worker/data/batch_stream.h"

#include <arrow/type.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <system_error>
#include <thread>

#include "worker/config/error.h"
#include "worker/data/batch_assembler.h"
#include "worker/data/batch_cutter.h"
#include "worker/data/batch_queue.h"
#include "worker/data/dataset.h"
#include "worker/data/reader_times.h"
#include "worker/data/shuffle_buffer.h"
#include "worker/data/stream_plan.h"

namespace anneal::data {
namespace {

/// Finished batches of a worker that wait for the trainer: enough to hide a slow row group, few enough to bound memory.
constexpr size_t kReadAhead = 2;

/// CPU time of the calling thread.
double ThreadSeconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// Used batches whose buffers are filled again.
class BatchPool {
 public:
  explicit BatchPool(size_t most) : most_(most) {}

  std::unique_ptr<Batch> Take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<Batch>();
    std::unique_ptr<Batch> batch = std::move(free_.back());
    free_.pop_back();
    return batch;
  }

  void Give(std::unique_ptr<Batch> batch) {
    batch->reserved.reset();  // holds the file's buffers
    const std::lock_guard lock(mutex_);
    if (free_.size() < most_) free_.push_back(std::move(batch));
  }

 private:
  const size_t most_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Batch>> free_;
};

BatchAssembler MakeAssembler(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
                             const StreamPlan& plan, const arrow::Schema& schema) {
  BatchColumns columns = plan.columns;
  columns.reserved = ResolveReserved(columns.reserved, schema);
  return BatchAssembler(features::FeatureProgram(features, config, schema), columns, schema);
}

}  // namespace

class BatchStream::Impl {
 public:
  Impl(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features, const StreamOptions& options)
      : plan_(PlanStream(config.data_config(), features, options)),
        dataset_(OpenDataset(config.data_config(), plan_.dataset)),
        assembler_(MakeAssembler(config, features, plan_, *dataset_->schema())),
        pool_(dataset_->workers() * (kReadAhead + plan_.shuffle_batches + 2)) {
    Start();
  }

  ~Impl() { Stop(); }

  std::unique_ptr<Batch> Next() {
    while (running_ > 0) {
      Worker& worker = *workers_[turn_];
      if (!worker.ended) {
        std::unique_ptr<Batch> batch = Wait(worker.queue);
        if (batch != nullptr) {
          Advance();
          return batch;
        }
        worker.ended = true;
        --running_;
      }
      Advance();
    }
    return nullptr;
  }

  void Rewind() {
    Stop();
    ++pass_;
    Start();
  }

  BatchPool& pool() { return pool_; }
  const StreamPlan& plan() const { return plan_; }
  const Dataset& dataset() const { return *dataset_; }
  const BatchAssembler& assembler() const { return assembler_; }
  double wait_seconds() const { return wait_seconds_; }

 private:
  struct Worker {
    BatchQueue queue{kReadAhead};
    std::thread thread;
    bool ended = false;  ///< seen by Next()
  };

  void Start() {
    stop_ = false;
    turn_ = 0;
    running_ = dataset_->workers();
    for (int i = 0; i < running_; ++i) workers_.push_back(std::make_unique<Worker>());
    try {
      for (int i = 0; i < running_; ++i) {
        workers_[i]->thread = std::thread([this, i, pass = pass_] { Read(i, pass, workers_[i]->queue); });
      }
    } catch (const std::system_error& error) {
      Stop();
      throw TemporaryError(std::string("a reader thread cannot be started: ") + error.what());
    }
  }

  void Stop() {
    stop_ = true;
    for (const auto& worker : workers_) worker->queue.Close();
    for (const auto& worker : workers_) {
      if (worker->thread.joinable()) worker->thread.join();
    }
    workers_.clear();
    running_ = 0;
  }

  /// Body of a reader thread.
  void Read(int worker, int64_t pass, BatchQueue& queue) {
    try {
      const std::unique_ptr<RowReader> reader = dataset_->Open(worker, pass);
      BatchCutter cutter(*reader, plan_.batch_size, plan_.drop_remainder);
      const DatasetOptions& options = plan_.dataset;
      std::seed_seq seed{static_cast<uint32_t>(options.seed), static_cast<uint32_t>(options.seed >> 32),
                         static_cast<uint32_t>(options.rank), static_cast<uint32_t>(worker),
                         static_cast<uint32_t>(pass)};
      ShuffleBuffer shuffle(plan_.shuffle_batches, seed);
      std::vector<RowSlice> slices;
      for (double began = ThreadSeconds(); !stop_ && cutter.Next(&slices);) {
        const double decoded = ThreadSeconds();
        ReaderTimesOfProcess().read += decoded - began;
        std::unique_ptr<Batch> batch = pool_.Take();
        assembler_.Fill(slices, batch.get());
        began = ThreadSeconds();
        ReaderTimesOfProcess().features += began - decoded;
        if (plan_.shuffle_batches > 0) batch = shuffle.Exchange(std::move(batch));
        if (batch != nullptr && !queue.Push(std::move(batch))) return;
      }
      for (std::unique_ptr<Batch>& batch : shuffle.Drain()) {
        if (!queue.Push(std::move(batch))) return;
      }
      queue.End();
    } catch (...) {
      queue.End(std::current_exception());
    }
  }

  std::unique_ptr<Batch> Wait(BatchQueue& queue) {
    if (queue.Ready()) return queue.Pop();
    struct Stopwatch {
      double& total;
      std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
      ~Stopwatch() { total += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); }
    } stopwatch{wait_seconds_};
    return queue.Pop();
  }

  void Advance() { turn_ = (turn_ + 1) % workers_.size(); }

  const StreamPlan plan_;
  const std::unique_ptr<Dataset> dataset_;
  const BatchAssembler assembler_;
  BatchPool pool_;
  std::atomic<bool> stop_ = false;
  std::vector<std::unique_ptr<Worker>> workers_;
  size_t turn_ = 0;  ///< worker whose batch comes next
  int running_ = 0;  ///< workers whose end Next() has not seen
  int64_t pass_ = 0;
  double wait_seconds_ = 0;
};

BatchStream::BatchStream(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
                         const StreamOptions& options)
    : impl_(std::make_unique<Impl>(config, features, options)) {}
BatchStream::~BatchStream() = default;
std::unique_ptr<Batch> BatchStream::Next() { return impl_->Next(); }
void BatchStream::Rewind() { impl_->Rewind(); }
void BatchStream::Recycle(std::unique_ptr<Batch> batch) {
  if (batch != nullptr) impl_->pool().Give(std::move(batch));
}
double BatchStream::wait_seconds() const { return impl_->wait_seconds(); }
int64_t BatchStream::batch_size() const { return impl_->plan().batch_size; }
int BatchStream::workers() const { return impl_->dataset().workers(); }
bool BatchStream::has_event_times() const { return impl_->assembler().has_event_times(); }
int64_t BatchStream::total_rows() const { return impl_->dataset().total_rows(); }

}  // namespace anneal::data
