// When the events in the data say that a checkpoint is due: save_checkpoints_timestamp_interval and
// save_checkpoints_timestamps (parity/train.md 3). Times are Unix seconds.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "tzrec/train.pb.h"

namespace anneal::train {

/// Whether the config asks for such checkpoints.
bool SavesByEventTime(const tzrec::protos::TrainConfig& config);

/// The latest time that a share `quorum` of the ranks has reached; none when too few know theirs (-1: unknown).
/// `times` is not empty.
std::optional<int64_t> TimeOfQuorum(std::vector<int64_t> times, double quorum);

class EventTimeSaves {
 public:
  explicit EventTimeSaves(const tzrec::protos::TrainConfig& config);

  /// The ranks' newest events after a step. The first time that is known only sets the reference.
  void Observe(const std::vector<int64_t>& times);
  /// Whether a boundary lies between the reference and now: a multiple of the interval, or a given time.
  bool Due() const;
  /// A checkpoint of any kind was begun: the reference is now.
  void Saved();

  /// What the checkpoint of this step stores, for the run that goes on from it.
  std::optional<int64_t> reference() const { return reference_; }
  void set_reference(std::optional<int64_t> time) { reference_ = time; }

 private:
  const int64_t interval_;
  const std::vector<int64_t> targets_;
  const double quorum_;
  std::optional<int64_t> reference_, now_;
};

}  // namespace anneal::train
