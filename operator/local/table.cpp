#include "operator/local/table.h"

#include <algorithm>

#include "operator/api/conditions.h"
#include "operator/api/schema.h"

namespace anneal::local {
namespace {

using kube::Json;

std::string TextAt(const Json& job, const std::string& json_path) {
  std::string pointer = json_path;
  std::replace(pointer.begin(), pointer.end(), '.', '/');
  const Json::json_pointer path(pointer);
  if (!job.contains(path)) return "";
  const Json& value = job.at(path);
  return value.is_string() ? value.get<std::string>() : value.is_null() ? "" : value.dump();
}

}  // namespace

std::string AlignColumns(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line += std::string(widths[i] - row[i].size() + 3, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string Age(const std::string& since, kube::Clock::Time now) {
  const auto time = kube::ParseTime(since);
  if (!time) return "";
  const int64_t s = std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::seconds>(now - *time).count());
  if (s < 120) return std::to_string(s) + "s";
  if (s < 600) return std::to_string(s / 60) + "m" + (s % 60 ? std::to_string(s % 60) + "s" : "");
  if (s < 3600 * 3) return std::to_string(s / 60) + "m";
  if (s < 3600 * 48) return std::to_string(s / 3600) + "h";
  return std::to_string(s / 86400) + "d";
}

std::vector<std::vector<std::string>> KindTable(const kube::Resource& resource, const std::vector<Json>& jobs,
                                                kube::Clock::Time now) {
  std::vector<std::vector<std::string>> rows;
  const api::Kind* kind = api::FindKind(resource);
  std::vector<std::string> header = {"NAME"};
  if (kind) {
    for (const auto& column : kind->columns) {
      header.push_back(column.name);
      std::transform(header.back().begin(), header.back().end(), header.back().begin(), ::toupper);
    }
  } else {
    header.insert(header.end(), {"STATUS", "AGE"});
  }
  rows.push_back(header);
  for (const Json& job : jobs) {
    std::vector<std::string> row = {job["metadata"]["name"]};
    const std::string age = Age(job["metadata"].value("creationTimestamp", ""), now);
    if (kind) {
      for (const auto& column : kind->columns) row.push_back(column.type == "date" ? age : TextAt(job, column.json_path));
    } else {
      row.push_back(TextAt(job, ".status.phase"));
      row.push_back(age);
    }
    rows.push_back(row);
  }
  return rows;
}

std::string JobLine(const Json& job) {
  std::string line = job["kind"].get<std::string>() + "/" + job["metadata"]["name"].get<std::string>() + "  ";
  const std::string phase = TextAt(job, ".status.phase");
  line += phase.empty() ? "Pending" : phase;
  auto add = [&line](const std::string& name, const std::string& value) {
    if (!value.empty()) line += "  " + name + (name.empty() ? "" : " ") + value;
  };
  if (phase == "Pending" || phase.empty()) {
    const Json why = api::FindCondition(job.value("status", Json::object()), "Reconciling");
    if (why.is_object()) add("", why.value("message", ""));
    return line;
  }
  if (phase == "Running" || phase == "Starting") add("workers", TextAt(job, ".status.workers.summary"));
  add("step", TextAt(job, ".status.progress.globalStep"));
  if (phase == "Running") add("", TextAt(job, ".status.progress.percent"));
  add("loss", TextAt(job, ".status.progress.loss"));
  add("auc", TextAt(job, ".status.progress.auc"));
  const std::string gate = TextAt(job, ".status.gate");
  if (!gate.empty()) add("gate", gate);
  const std::string restarts = TextAt(job, ".status.run.restarts");
  if (restarts != "0") add("restarts", restarts);
  add("", TextAt(job, ".status.artifact.uri"));
  if (phase == "Failed" || phase == "Restarting") add("", TextAt(job, ".status.failure.message"));
  return line;
}

Outcome OutcomeOf(const Json& job) {
  const Json status = job.value("status", Json::object());
  const std::string phase = status.value("phase", "Pending");
  const bool current = status.value("observedGeneration", int64_t{0}) == job["metadata"].value("generation", int64_t{1});
  if (!current) return {};
  const Json stalled = api::FindCondition(status, "Stalled");
  const std::string message = stalled.is_object() ? stalled.value("message", "") : "";
  if (phase == "Failed") return {true, false, message};
  if (api::IsTrue(status, "Stalled")) return {true, false, message};
  if (phase == "Complete") return {true, true, ""};
  if (phase == "Suspended") return {true, true, "suspended"};
  return {};
}

}  // namespace anneal::local
