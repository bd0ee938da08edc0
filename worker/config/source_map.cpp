#include "worker/config/source_map.h"

#include <algorithm>
#include <cctype>

namespace anneal::config {
namespace {

std::string Lines(const std::string& file, const std::vector<Fault>& faults) {
  std::string text;
  for (const Fault& fault : faults) text += (text.empty() ? "" : "\n") + FaultLine(file, fault);
  return text;
}

}  // namespace

ConfigFaults::ConfigFaults(const std::string& file, std::vector<Fault> faults)
    : ConfigError(Lines(file, faults)), faults_(std::move(faults)) {}

std::string FaultLine(const std::string& file, const Fault& fault) {
  std::string line = file;
  if (fault.at.line > 0) line += ":" + std::to_string(fault.at.line) + ":" + std::to_string(fault.at.column);
  line += ": ";
  if (!fault.path.empty()) line += fault.path + ": ";
  return line + fault.message;
}

size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      const bool differ =
          std::tolower(static_cast<unsigned char>(a[i - 1])) != std::tolower(static_cast<unsigned char>(b[j - 1]));
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + differ});
      diagonal = above;
    }
  }
  return row.back();
}

std::string NearestName(const std::string& name, const std::vector<std::string>& candidates) {
  std::string best;
  size_t distance = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    if (const size_t d = EditDistance(name, candidate); d < distance) best = candidate, distance = d;
  }
  return best;
}

std::string DidYouMean(const std::string& name, const std::vector<std::string>& candidates) {
  const std::string nearest = NearestName(name, candidates);
  return nearest.empty() ? "" : " (did you mean '" + nearest + "'?)";
}

}  // namespace anneal::config
