// Who is to blame when a collective fails: a pure decision from what every rank last said of itself.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace anneal::dist {

/// A rank's sign of life.
struct Pulse {
  int64_t beat = 0;       ///< grows as long as the process runs
  int64_t sequence = 0;   ///< collectives begun
  bool inside = false;    ///< the last of them has not ended
  std::string operation;  ///< of the last of them
  int64_t step = 0;
  bool finished = false;  ///< the rank has left the group in good order
};

nlohmann::json PulseToJson(const Pulse& pulse);
/// Anything that is not a pulse gives an empty one.
Pulse PulseFromJson(const std::string& text);

struct Verdict {
  int rank = -1;     ///< the one to blame; -1: none stands out
  std::string text;  ///< "rank 1 ...": a clause for a message
};

/// `before` and `after` are the pulses of all ranks, read some beats apart; `me` reads them. In this order: a rank
/// whose beat stands still is dead or stopped; a rank that has finished left the others; the rank that has begun the
/// fewest collectives, or has left the one that the others wait in, lags.
Verdict Diagnose(int me, const std::vector<Pulse>& before, const std::vector<Pulse>& after);

}  // namespace anneal::dist
