#include "worker/train/event_time_saves.h"

#include <gtest/gtest.h>

namespace anneal::train {
namespace {

using Times = std::vector<int64_t>;

TEST(TimeOfQuorum, IsWhatSoManyRanksHaveReached) {
  struct Case {
    Times times;
    double quorum;
    std::optional<int64_t> want;
  };
  for (const Case& c :
       {Case{{100}, 0.5, 100}, Case{{100}, 1.0, 100}, Case{{-1}, 0.5, std::nullopt}, Case{{40, 10, 30, 20}, 0.5, 30},
        Case{{40, 10, 30, 20}, 0.25, 40}, Case{{40, 10, 30, 20}, 0.75, 20}, Case{{40, 10, 30, 20}, 1.0, 10},
        Case{{40, 10, 30, 20}, 0.01, 40}, Case{{40, -1, -1, 20}, 0.5, 20}, Case{{40, -1, -1, 20}, 0.75, std::nullopt},
        Case{{1, 2, 3}, 0.5, 2}, Case{{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, static_cast<double>(0.7f), 4},
        Case{{0, 0}, 1.0, 0}}) {
    EXPECT_EQ(TimeOfQuorum(c.times, c.quorum), c.want) << testing::PrintToString(c.times) << " " << c.quorum;
  }
}

tzrec::protos::TrainConfig Config(uint32_t interval, const std::vector<uint64_t>& targets) {
  tzrec::protos::TrainConfig config;
  config.set_save_checkpoints_timestamp_interval(interval);
  for (const uint64_t target : targets) config.add_save_checkpoints_timestamps(target);
  return config;
}

/// Times at which a checkpoint is made, one rank, an event after the other.
Times SavedAt(EventTimeSaves saves, const Times& events) {
  Times saved;
  for (const int64_t event : events) {
    saves.Observe({event});
    if (!saves.Due()) continue;
    saved.push_back(event);
    saves.Saved();
  }
  return saved;
}

TEST(EventTimeSaves, EveryIntervalOfTheClock) {
  EXPECT_FALSE(SavesByEventTime({}));
  EXPECT_TRUE(SavesByEventTime(Config(60, {})));
  // The first event sets the reference; unknown and older times change nothing; several boundaries make one save.
  EXPECT_EQ(SavedAt(EventTimeSaves(Config(60, {})), {70, -1, 119, 120, 121, 100, 179, 400, 410, 420}),
            (Times{120, 400, 420}));
}

TEST(EventTimeSaves, AtGivenTimes) {
  EXPECT_TRUE(SavesByEventTime(Config(0, {100})));
  EXPECT_EQ(SavedAt(EventTimeSaves(Config(0, {300, 100, 200, 50})), {90, 99, 100, 150, 500, 600}), (Times{100, 500}));
}

TEST(EventTimeSaves, SavesOfAnyKindMoveTheReferenceAndAResumedRunKeepsIt) {
  EventTimeSaves saves(Config(0, {100}));
  saves.Observe({90});
  saves.Observe({105});
  saves.Saved();  // by its step
  EXPECT_FALSE(saves.Due());
  EXPECT_EQ(saves.reference(), 105);
  EventTimeSaves resumed(Config(0, {110}));
  resumed.set_reference(105);
  resumed.Observe({120});
  EXPECT_TRUE(resumed.Due());
}

}  // namespace
}  // namespace anneal::train
