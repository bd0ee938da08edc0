#include "operator/controllers/progress_poller.h"

#include <cpprest/http_client.h>

#include "operator/controllers/worker_pod.h"

namespace anneal::controllers {
namespace {

using kube::Json;
using std::chrono::milliseconds;

std::string IdOf(const kube::Resource& resource, const kube::Key& key) {
  return resource.plural + "/" + key.ns + "/" + key.name;
}

/// Where a running pod serves its progress: the annotation of the local runner, else its address.
std::string UrlOf(const Json& pod) {
  const Json annotations = pod["metadata"].value("annotations", Json::object());
  if (annotations.contains("anneal.dev/progress-url")) return annotations["anneal.dev/progress-url"];
  const std::string ip = pod.value("status", Json::object()).value("podIP", "");
  return ip.empty() ? "" : "http://" + ip + ":" + std::to_string(kProgressPort);
}

Json Ask(const std::string& url) {
  web::http::client::http_client_config config;
  config.set_timeout(std::chrono::seconds(2));
  try {
    web::http::client::http_client client(url, config);
    const auto reply = client.request(web::http::methods::GET, "/progress").get();
    if (reply.status_code() != 200) return nullptr;
    Json answer = Json::parse(reply.extract_utf8string(true).get(), nullptr, false);
    return answer.is_object() ? answer : Json();
  } catch (const std::exception&) {
    return nullptr;  // starting, ending, or unreachable: the next poll tells
  }
}

}  // namespace

ProgressPoller::ProgressPoller(milliseconds interval,
                               std::function<void(const kube::Resource&, const kube::Key&)> changed)
    : interval_(interval), changed_(std::move(changed)) {
  if (interval_.count() > 0) thread_ = std::thread([this] { Loop(); });
}

ProgressPoller::~ProgressPoller() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

Json ProgressPoller::Latest(const kube::Resource& resource, const kube::Key& key, const std::vector<Json>& pods,
                            const Json& status) {
  const Json run = status.value("run", Json::object());
  const std::lock_guard lock(mutex_);
  for (const Json& pod : pods) {
    const Json& labels = pod["metadata"]["labels"];
    if (labels.value("anneal.dev/index", "") != "0" ||
        labels.value("anneal.dev/run", "") != run.value("number", Json(0)).dump() ||
        labels.value("anneal.dev/attempt", "") != run.value("attempt", Json(0)).dump() ||
        pod.value("status", Json::object()).value("phase", "") != "Running") {
      continue;
    }
    Target& target = targets_[IdOf(resource, key)];
    const std::string uid = pod["metadata"]["uid"];
    if (target.pod != uid) target = {resource, key, UrlOf(pod), uid, nullptr};
    return target.answer;
  }
  targets_.erase(IdOf(resource, key));
  return nullptr;
}

void ProgressPoller::Forget(const kube::Resource& resource, const kube::Key& key) {
  const std::lock_guard lock(mutex_);
  targets_.erase(IdOf(resource, key));
}

void ProgressPoller::Loop() {
  auto next = std::chrono::steady_clock::now();
  while (!stop_) {
    std::this_thread::sleep_for(milliseconds(50));
    if (std::chrono::steady_clock::now() < next) continue;
    next = std::chrono::steady_clock::now() + interval_;
    std::vector<Target> targets;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [id, target] : targets_) targets.push_back(target);
    }
    for (const Target& target : targets) {
      if (stop_ || target.url.empty()) continue;
      const Json answer = Ask(target.url);
      if (!answer.is_object()) continue;
      bool moved = false;
      {
        const std::lock_guard lock(mutex_);
        const auto found = targets_.find(IdOf(target.resource, target.key));
        if (found != targets_.end() && found->second.pod == target.pod && found->second.answer != answer) {
          found->second.answer = answer;
          moved = true;
        }
      }
      if (moved) changed_(target.resource, target.key);
    }
  }
}

}  // namespace anneal::controllers
