// Who is blamed for a collective that failed, case by case.
#include "worker/dist/peer_diagnosis.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace anneal::dist {
namespace {

using testing::HasSubstr;

Pulse At(int64_t beat, int64_t sequence, bool inside, int64_t step) {
  return {beat, sequence, inside, "all-to-all", step, false};
}

TEST(Diagnose, APulseThatStandsStill) {
  const std::vector<Pulse> before{At(9, 40, true, 3), At(8, 40, true, 3), At(7, 39, false, 2)};
  std::vector<Pulse> after = before;
  after[0].beat = 12;
  after[2].beat = 11;  // rank 2 lags too, but rank 1 is silent: a silent rank explains a lagging one
  const Verdict verdict = Diagnose(0, before, after);
  EXPECT_EQ(verdict.rank, 1);
  EXPECT_THAT(verdict.text, HasSubstr("rank 1 gives no sign of life"));
  EXPECT_THAT(verdict.text, HasSubstr("of step 3"));
}

TEST(Diagnose, OnesOwnPulseIsNeverSilent) {
  const std::vector<Pulse> pulses{At(9, 40, true, 3), At(8, 40, true, 3)};
  std::vector<Pulse> after = pulses;
  after[1].beat = 9;
  EXPECT_EQ(Diagnose(0, pulses, after).rank, -1);
}

TEST(Diagnose, ARankThatHasEnded) {
  const std::vector<Pulse> before{At(9, 40, true, 3), At(8, 40, false, 3)};
  std::vector<Pulse> after = before;
  after[1].finished = true;
  const Verdict verdict = Diagnose(0, before, after);
  EXPECT_EQ(verdict.rank, 1);
  EXPECT_EQ(verdict.text, "rank 1 has ended already");
}

TEST(Diagnose, ARankThatRunsButLags) {
  const std::vector<Pulse> before{At(1, 40, true, 3), At(1, 40, true, 3), At(1, 38, false, 2)};
  std::vector<Pulse> after = before;
  for (Pulse& pulse : after) ++pulse.beat;
  for (const int me : {0, 1, 2}) {  // whoever is the first to tell, all are told the same
    const Verdict verdict = Diagnose(me, before, after);
    EXPECT_EQ(verdict.rank, 2);
    EXPECT_EQ(verdict.text,
              "rank 2 lags: it runs but is past all-to-all (collective 38) of step 2 while rank 0 is inside all-to-all "
              "(collective 40) of step 3");
  }
}

TEST(Diagnose, ARankThatNeverCameToACollective) {
  const std::vector<Pulse> before{At(1, 1, true, -1), Pulse{1}};
  std::vector<Pulse> after = before;
  for (Pulse& pulse : after) ++pulse.beat;
  const Verdict verdict = Diagnose(0, before, after);
  EXPECT_EQ(verdict.rank, 1);
  EXPECT_THAT(verdict.text, HasSubstr("before its first collective"));
}

TEST(Diagnose, NobodyStandsOut) {
  const std::vector<Pulse> before{At(1, 40, true, 3), At(1, 40, true, 3)};
  std::vector<Pulse> after = before;
  for (Pulse& pulse : after) ++pulse.beat;
  const Verdict verdict = Diagnose(0, before, after);
  EXPECT_EQ(verdict.rank, -1);
  EXPECT_THAT(verdict.text, HasSubstr("network"));
}

TEST(Pulse, SurvivesTheStore) {
  const Pulse pulse{5, 17, true, "barrier", 4, true}, back = PulseFromJson(PulseToJson(pulse).dump());
  EXPECT_EQ(back.beat, 5);
  EXPECT_EQ(back.sequence, 17);
  EXPECT_TRUE(back.inside);
  EXPECT_EQ(back.operation, "barrier");
  EXPECT_EQ(back.step, 4);
  EXPECT_TRUE(back.finished);
}

TEST(Pulse, AnythingElseIsEmpty) {
  for (const char* text : {"", "nonsense", "[]", "{\"beat\": \"x\"}"}) EXPECT_EQ(PulseFromJson(text).beat, 0) << text;
}

}  // namespace
}  // namespace anneal::dist
