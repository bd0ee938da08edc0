#include "worker/train/progress/progress.h"

#include <cpprest/http_listener.h>
#include <fcntl.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>

#include "worker/train/progress/log.h"

namespace anneal::train {
namespace {

using nlohmann::json;

/// JSON has no NaN; Kubernetes reads numbers only.
json Number(double value) { return std::isfinite(value) ? json(value) : json(); }

json Metrics(const std::map<std::string, double>& metrics) {
  json object = json::object();
  for (const auto& [name, value] : metrics) object[name] = Number(value);
  return object;
}

void AddBest(const BestCheckpoint& best, json& object) {
  if (best.step < 0) return;
  object["bestCheckpoint"] = {{"step", best.step}, {"metric", best.metric}, {"value", Number(best.value)}};
}

}  // namespace

json ToJson(const Progress& progress) {
  json object = {{"phase", progress.phase},
                 {"globalStep", progress.global_step},
                 {"epoch", progress.epoch},
                 {"metrics", Metrics(progress.metrics)}};
  if (progress.total_steps >= 0) {
    object["totalSteps"] = progress.total_steps;
    if (progress.total_steps > 0) {
      object["percent"] = 100.0 * static_cast<double>(progress.global_step) / static_cast<double>(progress.total_steps);
    }
  }
  if (progress.samples_per_second >= 0) object["samplesPerSecond"] = Number(progress.samples_per_second);
  if (progress.eta_seconds >= 0) object["etaSeconds"] = Number(progress.eta_seconds);
  if (progress.checkpoint_step >= 0) {
    object["lastCheckpoint"] = {{"step", progress.checkpoint_step}, {"path", progress.checkpoint_path}};
  }
  AddBest(progress.best, object);
  return object;
}

struct ProgressServer::Server {
  explicit Server(int port) : listener("http://0.0.0.0:" + std::to_string(port)) {
    listener.support(web::http::methods::GET, [this](web::http::http_request request) { Answer(request); });
    listener.open().wait();
  }
  ~Server() {
    try {
      listener.close().wait();
    } catch (const std::exception&) {  // closing is all that was wanted
    }
  }

  void Answer(const web::http::http_request& request) {
    const std::string path = request.relative_uri().path();
    const std::lock_guard lock(mutex);
    if (path == "/progress") {
      request.reply(web::http::status_codes::OK, ToJson(progress).dump(), "application/json");
    } else if (path == "/metrics") {
      request.reply(web::http::status_codes::OK, prometheus::TextSerializer().Serialize(registry.Collect()),
                    "text/plain; version=0.0.4");
    } else {
      request.reply(web::http::status_codes::NotFound, "only /progress and /metrics are here\n");
    }
  }

  prometheus::Gauge& Gauge(const std::string& name, const std::string& help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
  }

  std::mutex mutex;
  Progress progress;
  prometheus::Registry registry;
  prometheus::Gauge& step = Gauge("anneal_global_step", "Training step reached");
  prometheus::Gauge& samples = Gauge("anneal_samples", "Rows trained by this process");
  prometheus::Gauge& rate = Gauge("anneal_samples_per_second", "Rows per second over all ranks");
  prometheus::Gauge& wait = Gauge("anneal_data_wait_seconds", "Time that steps waited for data");
  prometheus::Gauge& checkpoint = Gauge("anneal_last_checkpoint_step", "Step of the newest checkpoint");
  prometheus::Family<prometheus::Gauge>& metrics =
      prometheus::BuildGauge().Name("anneal_metric").Help("Losses and metrics by name").Register(registry);
  web::http::experimental::listener::http_listener listener;
};

ProgressServer::ProgressServer(bool enabled) {
  const char* port = std::getenv("ANNEAL_PROGRESS_PORT");
  if (!enabled || !port || !*port) return;
  try {
    server_ = std::make_unique<Server>(std::atoi(port));
  } catch (const std::exception& error) {
    LogWarning(std::string("progress is not served on port ") + port + ": " + error.what());
  }
}

ProgressServer::~ProgressServer() = default;

void ProgressServer::Update(const Progress& progress) {
  if (!server_) return;
  const std::lock_guard lock(server_->mutex);
  server_->progress = progress;
  server_->step.Set(static_cast<double>(progress.global_step));
  server_->samples.Set(static_cast<double>(progress.samples));
  server_->rate.Set(progress.samples_per_second);
  server_->wait.Set(progress.data_wait_seconds);
  server_->checkpoint.Set(static_cast<double>(progress.checkpoint_step));
  for (const auto& [name, value] : progress.metrics) server_->metrics.Add({{"name", name}}).Set(value);
}

void WriteTerminationMessage(const TerminationMessage& message) {
  const char* variable = std::getenv("ANNEAL_TERMINATION_MESSAGE_PATH");
  const std::string path = variable && *variable ? variable : "/dev/termination-log";
  if (!(variable && *variable) && !std::filesystem::exists(path)) return;
  json object = json::object();
  if (message.global_step >= 0) object["globalStep"] = message.global_step;
  if (!message.metrics.empty()) object["metrics"] = Metrics(message.metrics);
  if (!message.reason.empty()) object["reason"] = message.reason;
  if (!message.message.empty()) object["message"] = message.message.substr(0, 2000);
  if (message.checkpoint_step >= 0) {
    object["checkpoint"] = {{"step", message.checkpoint_step}, {"path", message.checkpoint_path}};
  }
  AddBest(message.best, object);
  if (!message.artifact_uri.empty()) {
    object["artifact"] = {
        {"uri", message.artifact_uri}, {"sha256", message.artifact_sha256}, {"sizeBytes", message.artifact_bytes}};
  }
  std::string text = object.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > 4096) {
    object.erase("metrics");
    text = object.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 4096);
  }
  // One write to a file that the kubelet mounted: it cannot be renamed into place.
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return;
  if (::write(fd, text.data(), text.size()) < 0) LogWarning("cannot write the termination message to " + path);
  ::close(fd);
}

}  // namespace anneal::train
