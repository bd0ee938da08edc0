#include "operator/controllers/policies/progress.h"

#include <string>

#include "operator/api/conditions.h"
#include "operator/controllers/policies/gates.h"

namespace anneal::controllers {
namespace {

using kube::Json;

Json& ProgressOf(Json& status) {
  Json& progress = status["progress"];
  if (!progress.is_object()) progress = Json::object();
  return progress;
}

void TakeCheckpoint(Json& status, const Json& checkpoint, int64_t generation, kube::Clock::Time now) {
  if (!checkpoint.is_object() || !checkpoint.contains("step")) return;
  Json& progress = ProgressOf(status);
  const Json step = checkpoint["step"];
  if (progress.value("lastCheckpoint", Json::object()).value("step", Json()) == step) return;
  progress["lastCheckpoint"] = {{"step", step}, {"time", kube::FormatTime(now)}};
  api::SetCondition(status, "CheckpointAvailable", true, "Periodic", "step " + step.dump(), generation, now);
}

}  // namespace

void TakeProgress(Json& status, const Json& live, int64_t generation, kube::Clock::Time now) {
  Json& progress = ProgressOf(status);
  const int64_t before = progress.value("globalStep", int64_t{-1});
  for (const char* field : {"phase", "totalSteps", "epoch"}) {
    if (live.contains(field)) progress[field] = live[field];
  }
  for (const char* field : {"samplesPerSecond", "etaSeconds"}) {
    if (live.contains(field)) progress[field] = static_cast<int64_t>(live.value(field, 0.0));
  }
  if (live.contains("percent") && live["percent"].is_number()) {
    progress["percent"] = std::to_string(static_cast<int>(live["percent"].get<double>())) + "%";
  }
  if (live.value("globalStep", int64_t{-1}) != before) progress["lastStepTime"] = kube::FormatTime(now);
  TakeResult(status, live, generation, now);
  if (live.contains("lastCheckpoint")) TakeCheckpoint(status, live["lastCheckpoint"], generation, now);
}

void TakeResult(Json& status, const Json& message, int64_t generation, kube::Clock::Time now) {
  Json& progress = ProgressOf(status);
  if (message.contains("globalStep")) progress["globalStep"] = message["globalStep"];
  if (message.contains("checkpoint")) TakeCheckpoint(status, message["checkpoint"], generation, now);
  if (const Json best = message.value("bestCheckpoint", Json()); best.is_object() && best.contains("step")) {
    progress["bestCheckpoint"] = {{"step", best["step"]},
                                  {"metric", best.value("metric", "")},
                                  {"value", MetricText(best.value("value", Json()))}};
  }
  if (!message.contains("metrics") || !message["metrics"].is_object()) return;
  Json list = Json::array();
  for (const auto& [name, value] : message["metrics"].items()) {
    const std::string text = MetricText(value);
    if (text.empty() || list.size() >= 32) continue;
    list.push_back({{"name", name}, {"value", text}});
    if (name == "loss" || name == "total_loss") progress["loss"] = text;
    if (name == "auc" || (name.starts_with("auc_") && !progress.contains("auc"))) progress["auc"] = text;
  }
  progress["metrics"] = list;
}

}  // namespace anneal::controllers
