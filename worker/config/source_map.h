// Where in the text every field of a config was set, and the faults found there.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "worker/config/error.h"

namespace anneal::config {

struct Location {
  int line = 0, column = 0;  ///< 1-based; 0: not known
};

/// "model_config.deepfm.deep", "feature_configs[3].id_feature.feature_name" -> where its name stands.
using SourceMap = std::map<std::string, Location>;

/// One thing wrong with a config.
struct Fault {
  std::string path;  ///< of the field, may be empty
  Location at;
  std::string message;
};

/// All faults of a config at once. what() has one line each: "FILE:LINE:COLUMN: path: message".
class ConfigFaults : public ConfigError {
 public:
  ConfigFaults(const std::string& file, std::vector<Fault> faults);
  const std::vector<Fault>& faults() const { return faults_; }

 private:
  std::vector<Fault> faults_;
};

std::string FaultLine(const std::string& file, const Fault& fault);

/// The path of a list's item: "list[3]".
inline std::string Item(const std::string& list, int index) { return list + "[" + std::to_string(index) + "]"; }

/// Letters to put in, leave out or change to make one of the other; case does not count.
size_t EditDistance(const std::string& a, const std::string& b);
/// The candidate closest to `name` by edit distance; empty when none is close.
std::string NearestName(const std::string& name, const std::vector<std::string>& candidates);
/// " (did you mean 'x'?)" or nothing.
std::string DidYouMean(const std::string& name, const std::vector<std::string>& candidates);

}  // namespace anneal::config
