#include "worker/dist/peer_diagnosis.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace anneal::dist {
namespace {

std::string Position(const Pulse& pulse) {
  if (pulse.sequence == 0) return "before its first collective";
  return std::string(pulse.inside ? "inside " : "past ") + pulse.operation + " (collective " +
         std::to_string(pulse.sequence) + ") of step " + std::to_string(pulse.step);
}

}  // namespace

nlohmann::json PulseToJson(const Pulse& pulse) {
  return {{"beat", pulse.beat},           {"sequence", pulse.sequence}, {"inside", pulse.inside},
          {"operation", pulse.operation}, {"step", pulse.step},         {"finished", pulse.finished}};
}

Pulse PulseFromJson(const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  Pulse pulse;
  try {
    pulse.beat = json.at("beat");
    pulse.sequence = json.at("sequence");
    pulse.inside = json.at("inside");
    pulse.operation = json.at("operation");
    pulse.step = json.at("step");
    pulse.finished = json.at("finished");
  } catch (const nlohmann::json::exception&) {
    return {};
  }
  return pulse;
}

Verdict Diagnose(int me, const std::vector<Pulse>& before, const std::vector<Pulse>& after) {
  const int ranks = static_cast<int>(after.size());
  for (int r = 0; r < ranks; ++r) {
    if (r == me || after[r].finished || after[r].beat != before[r].beat) continue;
    return {r, "rank " + std::to_string(r) +
                   " gives no sign of life (killed, stopped or unreachable); it was last seen " + Position(after[r])};
  }
  for (int r = 0; r < ranks; ++r) {
    if (r != me && after[r].finished) return {r, "rank " + std::to_string(r) + " has ended already"};
  }
  // Twice the number of collectives begun, and one more when the last is over.
  auto progress = [&](int r) { return 2 * after[r].sequence + (after[r].inside ? 0 : 1); };
  int least = 0, most = 0;  // whoever asks, the same two ranks are named
  for (int r = 0; r < ranks; ++r) {
    if (progress(r) < progress(least)) least = r;
    if (progress(r) > progress(most)) most = r;
  }
  if (after[least].sequence == after[most].sequence) {
    return {-1, "no rank lags; the network between the ranks may be at fault"};
  }
  return {least, "rank " + std::to_string(least) + " lags: it runs but is " + Position(after[least]) + " while rank " +
                     std::to_string(most) + " is " + Position(after[most])};
}

}  // namespace anneal::dist
