#include "worker/train/event_time_saves.h"

#include <algorithm>
#include <cmath>

namespace anneal::train {

bool SavesByEventTime(const tzrec::protos::TrainConfig& config) {
  return config.save_checkpoints_timestamp_interval() > 0 || config.save_checkpoints_timestamps_size() > 0;
}

std::optional<int64_t> TimeOfQuorum(std::vector<int64_t> times, double quorum) {
  std::sort(times.begin(), times.end());
  const auto ranks = static_cast<int64_t>(times.size());
  // The rest is so small that only a share's rounding in binary is forgiven.
  const auto needed =
      std::clamp(static_cast<int64_t>(std::ceil(quorum * static_cast<double>(ranks) - 1e-9)), int64_t{1}, ranks);
  const int64_t time = times[ranks - needed];
  return time < 0 ? std::nullopt : std::optional(time);
}

EventTimeSaves::EventTimeSaves(const tzrec::protos::TrainConfig& config)
    : interval_(config.save_checkpoints_timestamp_interval()),
      targets_(config.save_checkpoints_timestamps().begin(), config.save_checkpoints_timestamps().end()),
      quorum_(config.save_checkpoints_timestamp_quorum()) {}

void EventTimeSaves::Observe(const std::vector<int64_t>& times) {
  now_ = TimeOfQuorum(times, quorum_);
  if (!reference_) reference_ = now_;
}

bool EventTimeSaves::Due() const {
  if (!now_ || !reference_) return false;
  if (interval_ > 0 && *now_ / interval_ > *reference_ / interval_) return true;
  return std::any_of(targets_.begin(), targets_.end(),
                     [this](int64_t target) { return *reference_ < target && target <= *now_; });
}

void EventTimeSaves::Saved() {
  if (now_) reference_ = now_;
}

}  // namespace anneal::train
