#include "operator/controllers/progress_poller.h"

#include <cpprest/http_client.h>

#include "operator/controllers/policies/pod_problems.h"
#include "operator/controllers/worker_pod.h"

namespace anneal::controllers {
namespace {

using kube::Json;
using std::chrono::milliseconds;

/// Where a running pod serves its progress: the annotation of the local runner, else its address.
std::string UrlOf(const Json& pod) {
  const Json annotations = pod["metadata"].value("annotations", Json::object());
  if (annotations.contains("anneal.dev/progress-url")) return annotations["anneal.dev/progress-url"];
  const std::string ip = pod.value("status", Json::object()).value("podIP", "");
  return ip.empty() ? "" : "http://" + ip + ":" + std::to_string(kProgressPort);
}

}  // namespace

ProgressPoller::ProgressPoller(milliseconds interval,
                               std::function<void(const kube::Resource&, const kube::Key&)> changed)
    : interval_(interval), changed_(std::move(changed)) {
  if (interval_.count() > 0) thread_ = std::thread([this] { Loop(); });
}

ProgressPoller::~ProgressPoller() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_state_.notify_all();
  if (thread_.joinable()) thread_.join();
  std::unique_lock lock(mutex_);  // requests time out after two seconds
  changed_state_.wait(lock, [&] { return in_flight_ == 0; });
}

Json ProgressPoller::Latest(const kube::Resource& resource, const kube::Key& key, const std::vector<Json>& pods,
                            const Json& status) {
  const Json run = status.value("run", Json::object());
  const std::lock_guard lock(mutex_);
  for (const Json& pod : pods) {
    const Json& labels = pod["metadata"]["labels"];
    if (labels.value("anneal.dev/index", "") != "0" || !IsOfAttempt(pod, run) || PodPhase(pod) != "Running") {
      continue;
    }
    Target& target = targets_[{resource.plural, key}];
    const std::string uid = pod["metadata"]["uid"];
    if (target.pod != uid) target = {&resource, UrlOf(pod), uid, nullptr};
    return target.answer;
  }
  targets_.erase({resource.plural, key});
  return nullptr;
}

void ProgressPoller::Forget(const kube::Resource& resource, const kube::Key& key) {
  const std::lock_guard lock(mutex_);
  targets_.erase({resource.plural, key});
}

void ProgressPoller::Loop() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    const auto next = std::chrono::steady_clock::now() + interval_;
    // One after the other by their order: they may come and go while one is asked.
    for (auto at = targets_.begin(); at != targets_.end();) {
      const auto [id, target] = *at;
      if (!target.url.empty()) {
        changed_state_.wait(lock, [&] { return stop_ || in_flight_ < kAtATime; });
        if (stop_) return;
        ++in_flight_;
        lock.unlock();
        Ask(id, target);
        lock.lock();
      }
      at = targets_.upper_bound(id);
    }
    changed_state_.wait_until(lock, next, [&] { return stop_; });
  }
}

// One request, answered on a thread of the HTTP client's.
void ProgressPoller::Ask(const Id& id, const Target& target) {
  web::http::client::http_client_config config;
  config.set_timeout(std::chrono::seconds(2));
  try {
    auto client = std::make_shared<web::http::client::http_client>(target.url, config);
    client->request(web::http::methods::GET, "/progress")
        .then([](const web::http::http_response& reply) {
          if (reply.status_code() != 200 || reply.headers().content_length() > kLongest)
            throw std::runtime_error("no progress");
          return reply.extract_utf8string(true);
        })
        .then([this, id, pod = target.pod, client](const pplx::task<std::string>& body) {
          Json answer;
          try {
            answer = Json::parse(body.get(), nullptr, false);
          } catch (const std::exception&) {
            // Starting, ending, or unreachable: the next poll tells.
          }
          Take(id, pod, std::move(answer));
        });
  } catch (const std::exception&) {  // an address that is none
    Take(id, target.pod, nullptr);
  }
}

void ProgressPoller::Take(const Id& id, const std::string& pod, Json answer) {
  const kube::Resource* moved = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto found = targets_.find(id);
    if (answer.is_object() && found != targets_.end() && found->second.pod == pod && found->second.answer != answer) {
      found->second.answer = std::move(answer);
      if (!stop_) moved = found->second.resource;
    }
  }
  if (moved) changed_(*moved, id.second);
  const std::lock_guard lock(mutex_);
  --in_flight_;
  changed_state_.notify_all();
}

}  // namespace anneal::controllers
