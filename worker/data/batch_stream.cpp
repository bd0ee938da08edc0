#include "worker/data/batch_stream.h"

#include <arrow/type.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <numeric>
#include <system_error>
#include <thread>

#include "worker/config/error.h"
#include "worker/data/batch_assembler.h"
#include "worker/data/batch_cutter.h"
#include "worker/data/batch_queue.h"
#include "worker/data/dataset.h"
#include "worker/data/reader_times.h"
#include "worker/data/sampler/sampled_rows.h"
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
  columns.aligned = AlignedSequencesOf(config, features);
  try {
    return BatchAssembler(features::FeatureProgram(features, config, schema), columns, schema);
  } catch (const DataError& error) {  // knows the columns, not where they are from
    throw DataError(plan.dataset.input_path + ": " + error.what());
  }
}

std::unique_ptr<const SampledRows> MakeSampled(const tzrec::protos::EasyRecConfig& config,
                                               const features::FeatureSet& features, const StreamPlan& plan,
                                               bool training, const arrow::Schema& schema) {
  if (!plan.samples) return nullptr;
  SamplingRequest request;
  request.seed = plan.dataset.seed;
  request.rank = plan.dataset.rank;
  return SampledRows::Make(config, features, schema, training, request);
}

/// FNV-1a, so that a number stands for the same in every build.
int64_t OrderOf(const StreamPlan& plan, const Dataset& dataset) {
  const DatasetOptions& options = plan.dataset;
  std::string text = options.input_path + "\n" + dataset.identity();
  for (const uint64_t number : {static_cast<uint64_t>(options.world_size), static_cast<uint64_t>(dataset.workers()),
                                static_cast<uint64_t>(plan.batch_size), static_cast<uint64_t>(plan.drop_remainder),
                                static_cast<uint64_t>(plan.shuffle_batches), options.seed}) {
    text += "\n" + std::to_string(number);
  }
  uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char c : text) hash = (hash ^ c) * 0x100000001b3;
  return static_cast<int64_t>(hash >> 1);
}

}  // namespace

class BatchStream::Impl {
 public:
  Impl(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features, const StreamOptions& options)
      : plan_(PlanStream(config.data_config(), features, options)),
        dataset_(OpenDataset(config.data_config(), plan_.dataset)),
        assembler_(MakeAssembler(config, features, plan_, *dataset_->schema())),
        training_(options.mode == Mode::kTrain),
        sampled_(MakeSampled(config, features, plan_, training_, *dataset_->schema())),
        pool_(dataset_->workers() * (kReadAhead + plan_.shuffle_batches + 2)),
        order_(OrderOf(plan_, *dataset_)),
        exact_(options.resume.order == order_ || (options.resume.rows.empty() && options.resume.batches == 0)),
        pass_(options.resume.pass) {
    if (!exact_) consumed_ = options.resume.rows;
    try {
      GoTo(exact_ ? options.resume.batches : 0);
    } catch (...) {
      Stop();
      throw;
    }
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
    consumed_.clear();
    Start(std::vector<int64_t>(dataset_->workers(), 0));
  }

  int64_t order() const { return order_; }
  bool exact() const { return exact_; }

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

  /// Starts the pass where Next() has been called `batches` times.
  void GoTo(int64_t batches) {
    const int workers = dataset_->workers();
    std::vector<int64_t> given(workers, 0), left;
    for (int i = 0; i < workers; ++i) left.push_back(BatchesOf(dataset_->RowsOf(i)));
    const bool known = std::find(left.begin(), left.end(), -1) == left.end();
    size_t turn = 0;
    if (known) {
      int64_t all = std::min(batches, std::accumulate(left.begin(), left.end(), int64_t{0}));
      for (; all > 0; turn = (turn + 1) % workers) {
        if (left[turn] == 0) continue;
        --left[turn], --all, ++given[turn];
      }
    }
    Start(given);
    turn_ = turn;
    // Files that do not say how much they hold are read once more.
    for (int64_t i = 0; !known && i < batches; ++i) {
      if (auto batch = Next()) pool_.Give(std::move(batch));
    }
  }

  /// Batches of a worker with so many rows; -1 for an unknown number.
  int64_t BatchesOf(int64_t rows) const {
    if (rows < 0) return -1;
    return (plan_.drop_remainder ? rows : rows + plan_.batch_size - 1) / plan_.batch_size;
  }

  /// `given`: how many batches of each worker are left out.
  void Start(const std::vector<int64_t>& given) {
    stop_ = false;
    turn_ = 0;
    running_ = dataset_->workers();
    for (int i = 0; i < running_; ++i) workers_.push_back(std::make_unique<Worker>());
    try {
      for (int i = 0; i < running_; ++i) {
        workers_[i]->thread =
            std::thread([this, i, pass = pass_, done = given[i]] { Read(i, pass, done, workers_[i]->queue); });
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

  /// Plays the order of a worker's `all` batches, without any, until `given` have come out. Returns the number of those
  /// that went in; `drained`: what is left where the buffer was being emptied.
  static int64_t Replay(ShuffleBuffer& shuffle, int64_t given, int64_t all, std::vector<NumberedBatch>* drained) {
    int64_t next = 0;
    while (given > 0 && next < all) given -= shuffle.Exchange({next++, nullptr}).has_value();
    if (given > 0) {
      *drained = shuffle.Drain();
      drained->erase(drained->begin(), drained->begin() + std::min<int64_t>(given, std::ssize(*drained)));
    }
    return next;
  }

  /// Body of a reader thread.
  void Read(int worker, int64_t pass, int64_t given, BatchQueue& queue) {
    try {
      const DatasetOptions& options = plan_.dataset;
      std::seed_seq seed{static_cast<uint32_t>(options.seed), static_cast<uint32_t>(options.seed >> 32),
                         static_cast<uint32_t>(options.rank), static_cast<uint32_t>(worker),
                         static_cast<uint32_t>(pass)};
      ShuffleBuffer shuffle(plan_.shuffle_batches, seed);
      int64_t next = given;
      std::vector<NumberedBatch> drained;
      if (plan_.shuffle_batches > 0) next = Replay(shuffle, given, BatchesOf(dataset_->RowsOf(worker)), &drained);
      // What is held by now, or drained already, is read after that, and what follows goes on behind it.
      std::map<int64_t, std::unique_ptr<Batch>*> missing;
      for (auto* batches : {&shuffle.held(), &drained}) {
        for (NumberedBatch& batch : *batches) missing[batch.number] = &batch.batch;
      }
      int64_t number = missing.empty() ? next : missing.begin()->first;
      const std::unique_ptr<RowReader> reader = dataset_->Open(worker, pass, number * plan_.batch_size, consumed_);
      BatchCutter cutter(*reader, plan_.batch_size, plan_.drop_remainder);
      std::vector<RowSlice> slices;
      for (double began = ThreadSeconds(); !stop_ && cutter.Next(&slices); ++number) {
        const double decoded = ThreadSeconds();
        ReaderTimesOfProcess().read += decoded - began;
        const auto held = missing.find(number);
        if (number < next && held == missing.end()) {  // was given
          began = decoded;
          continue;
        }
        std::unique_ptr<Batch> batch = pool_.Take();
        assembler_.Fill(slices, batch.get());
        // Evaluations of one run, and of one that was resumed, have the same samples.
        if (sampled_) sampled_->Append(slices, worker, training_ ? pass : 0, number, batch.get());
        began = ThreadSeconds();
        ReaderTimesOfProcess().features += began - decoded;
        if (held != missing.end()) {
          *held->second = std::move(batch);
        } else if (plan_.shuffle_batches == 0) {
          if (!queue.Push(std::move(batch))) return;
        } else if (auto out = shuffle.Exchange({number, std::move(batch)}); out && !queue.Push(std::move(out->batch))) {
          return;
        }
      }
      if (stop_) return;
      if (drained.empty()) drained = shuffle.Drain();
      for (NumberedBatch& batch : drained) {
        if (!queue.Push(std::move(batch.batch))) return;
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
  const bool training_;
  const std::unique_ptr<const SampledRows> sampled_;  ///< null: none are appended
  BatchPool pool_;
  std::atomic<bool> stop_ = false;
  std::vector<std::unique_ptr<Worker>> workers_;
  size_t turn_ = 0;  ///< worker whose batch comes next
  int running_ = 0;  ///< workers whose end Next() has not seen
  const int64_t order_;
  const bool exact_;
  int64_t pass_;
  std::map<std::string, int64_t> consumed_;  ///< of the first pass
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
int64_t BatchStream::order() const { return impl_->order(); }
bool BatchStream::exact() const { return impl_->exact(); }
int64_t BatchStream::total_rows() const { return impl_->dataset().total_rows(); }

}  // namespace anneal::data
