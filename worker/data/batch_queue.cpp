#include "worker/data/batch_queue.h"

namespace anneal::data {

BatchQueue::BatchQueue(size_t capacity) : capacity_(capacity) {}

bool BatchQueue::Push(std::unique_ptr<Batch> batch) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return closed_ || batches_.size() < capacity_; });
  if (closed_) return false;
  batches_.push_back(std::move(batch));
  changed_.notify_all();
  return true;
}

void BatchQueue::End(std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  error_ = std::move(error);
  changed_.notify_all();
}

std::unique_ptr<Batch> BatchQueue::Pop() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return closed_ || ended_ || !batches_.empty(); });
  if (closed_) return nullptr;
  if (batches_.empty()) {
    if (error_) std::rethrow_exception(error_);
    return nullptr;
  }
  std::unique_ptr<Batch> batch = std::move(batches_.front());
  batches_.pop_front();
  changed_.notify_all();
  return batch;
}

bool BatchQueue::Ready() const {
  const std::lock_guard lock(mutex_);
  return closed_ || ended_ || !batches_.empty();
}

void BatchQueue::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

}  // namespace anneal::data
