// What this process's reader threads have cost so far.
#pragma once

#include <atomic>

namespace anneal::data {

/// CPU seconds of all reader threads of the process.
struct ReaderTimes {
  std::atomic<double> read = 0;      ///< reading and decoding files
  std::atomic<double> features = 0;  ///< running the features
};

inline ReaderTimes& ReaderTimesOfProcess() {
  static ReaderTimes times;
  return times;
}

}  // namespace anneal::data
