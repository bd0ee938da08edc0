// Mixes the order of batches (parity/data.md 3, item 4); rows stay in their batch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "worker/data/batch.h"

namespace anneal::data {

/// Holds up to `capacity` batches. The order depends on the seed only.
class ShuffleBuffer {
 public:
  ShuffleBuffer(size_t capacity, std::seed_seq& seed) : capacity_(capacity), random_(seed) {}

  /// Takes a batch in. Once the buffer is full, gives a random one back, otherwise null.
  std::unique_ptr<Batch> Exchange(std::unique_ptr<Batch> batch) {
    held_.push_back(std::move(batch));
    if (held_.size() < capacity_) return nullptr;
    std::swap(held_[random_() % held_.size()], held_.back());
    std::unique_ptr<Batch> given = std::move(held_.back());
    held_.pop_back();
    return given;
  }

  /// The batches still held, shuffled.
  std::vector<std::unique_ptr<Batch>> Drain() {
    std::shuffle(held_.begin(), held_.end(), random_);
    return std::exchange(held_, {});
  }

 private:
  size_t capacity_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Batch>> held_;
};

}  // namespace anneal::data
