// Mixes the order of batches (parity/data.md 3, item 4); rows stay in their batch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "worker/data/batch.h"

namespace anneal::data {

/// A batch and its number among those that its worker reads in the pass.
struct NumberedBatch {
  int64_t number = 0;
  std::unique_ptr<Batch> batch;
};

/// Holds up to `capacity` batches. The order depends on the seed and their numbers only: it can be played without any
/// batch, to find out which are held after a while.
class ShuffleBuffer {
 public:
  ShuffleBuffer(size_t capacity, std::seed_seq& seed) : capacity_(capacity), random_(seed) {}

  /// Takes a batch in. Once the buffer is full, gives a random one back.
  std::optional<NumberedBatch> Exchange(NumberedBatch batch) {
    held_.push_back(std::move(batch));
    if (held_.size() < capacity_) return std::nullopt;
    std::swap(held_[random_() % held_.size()], held_.back());
    NumberedBatch given = std::move(held_.back());
    held_.pop_back();
    return given;
  }

  /// The batches still held, shuffled.
  std::vector<NumberedBatch> Drain() {
    std::shuffle(held_.begin(), held_.end(), random_);
    return std::exchange(held_, {});
  }

  std::vector<NumberedBatch>& held() { return held_; }

 private:
  size_t capacity_;
  std::mt19937_64 random_;
  std::vector<NumberedBatch> held_;
};

}  // namespace anneal::data
