// Text in columns, and the job table that `run` and `get` show.
#pragma once

#include <string>
#include <vector>

#include "operator/kube/reconciler.h"

namespace anneal::local {

/// Columns padded to their widest cell, three spaces apart, as kubectl prints them. The last column is not padded.
std::string AlignColumns(const std::vector<std::vector<std::string>>& rows);

/// "45s", "3m12s", "2h5m", "4d": how long ago `since` (RFC 3339) was.
std::string Age(const std::string& since, kube::Clock::Time now);

/// One row per job with the printer columns of its kind; the first row is the header.
std::vector<std::vector<std::string>> KindTable(const kube::Resource& resource, const std::vector<kube::Json>& jobs,
                                                kube::Clock::Time now);

/// "train  Running  r1  2/2  step 120 (24%)  loss 0.5521  auc 0.7712": one line about one job.
std::string JobLine(const kube::Json& job);

/// Whether nothing more will happen to the job by itself, and if so whether it ended well and why not.
struct Outcome {
  bool ended = false, well = false;
  std::string reason;
};
Outcome OutcomeOf(const kube::Json& job);

}  // namespace anneal::local
