// What one reader thread hands to the trainer: batches in order, then the end or an error.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>

#include "worker/data/batch.h"

namespace anneal::data {

/// Bounded, one writer and one reader. Close() wakes both for good.
class BatchQueue {
 public:
  explicit BatchQueue(size_t capacity);

  /// Waits for room. False after Close(): the writer should stop.
  bool Push(std::unique_ptr<Batch> batch);
  /// No more batches will come; `error`, when set, is what Pop() throws after the last one.
  void End(std::exception_ptr error = nullptr);

  /// Waits for a batch. Null at the end, again and again; rethrows the writer's error, again and again.
  std::unique_ptr<Batch> Pop();
  /// True when Pop() would not wait.
  bool Ready() const;

  /// The reader is no longer interested: Push() returns false from now on, Pop() null.
  void Close();

 private:
  const size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Batch>> batches_;
  bool ended_ = false;
  bool closed_ = false;
  std::exception_ptr error_;
};

}  // namespace anneal::data
