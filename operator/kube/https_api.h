// The Kubernetes API over HTTPS.
#pragma once

#include <cpprest/http_client.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "operator/kube/api.h"
#include "operator/kube/cluster_config.h"
#include "operator/kube/watch_frames.h"

namespace anneal::kube {

struct HttpsOptions {
  std::string user_agent = "anneal-operator";
  std::chrono::seconds request_timeout{30};
  /// A watch without a byte for so long is taken for dead (half-open connections); servers send bookmarks each minute.
  std::chrono::seconds watch_idle{150};
  std::chrono::milliseconds trust_for{60'000};  ///< then CA and client certificate files are read again
  /// Requests per second on average, and how many may come at once; 0 = as many as the server's Priority and Fairness
  /// lets through.
  double qps = 0;
  int burst = 100;
  /// Asked just before each write is sent, also again; false: nothing is sent, ApiError(0, "NotLeading").
  std::function<bool()> may_write;
  int tries = 10;                                  ///< of one request that is told to come again
  std::chrono::milliseconds longest_wait{30'000};  ///< cap on Retry-After
  /// Called after each request: HTTP status ("<error>" when none came), method, seconds.
  std::function<void(const std::string& code, const std::string& method, double seconds)> observe;
};

/// The threads that read and write for all connections of this process; to be called before the first of them is made.
void SetConnectionThreads(size_t count);

/// Requests time out. 429 and 503 with Retry-After are tried again after that time, reads also after 5xx and broken
/// connections; a 401 makes the token be read again, once. Writes whose fate is unknown are not repeated: the caller's
/// next reconcile sees what became of them. A changed CA or client certificate file makes a new connection.
/// TLS 1.2 or newer; names are verified unless the kubeconfig says otherwise. HTTPS_PROXY is not used.
/// Throws ApiError; status 0 with reason "Timeout", "Connection" or "BadFrame" when no proper answer came.
class HttpsApi : public Api {
 public:
  HttpsApi(ClusterConfig config, HttpsOptions options);

  Json Get(const Resource& resource, const std::string& ns, const std::string& name) override;
  ListResult List(const Resource& resource, const std::string& ns, const ListOptions& options) override;
  std::unique_ptr<Watch> StartWatch(const Resource& resource, const std::string& ns,
                                    const ListOptions& options) override;
  Json Create(const Resource& resource, const std::string& ns, const Json& object) override;
  Json MergePatch(const Resource& resource, const std::string& ns, const std::string& name, const Json& patch) override;
  Json MergePatchStatus(const Resource& resource, const std::string& ns, const std::string& name,
                        const Json& patch) override;
  void Delete(const Resource& resource, const std::string& ns, const std::string& name,
              const Preconditions& preconditions, std::optional<int64_t> grace_period_seconds) override;

 private:
  using Client = web::http::client::http_client;

  std::shared_ptr<Client> Connection(bool watch);
  void WaitForTurn();
  web::http::http_request Request(const std::string& method, const std::string& path, const std::string& body);
  Json Send(const std::string& method, const std::string& path, const Json* body, Without without = {});

  ClusterConfig config_;
  HttpsOptions options_;
  TokenSource token_;
  std::mutex mutex_;
  std::string trust_;  ///< content of the certificate files that the clients were made with
  std::chrono::steady_clock::time_point trust_read_{};
  std::shared_ptr<Client> client_, watch_client_;
  std::chrono::steady_clock::time_point next_turn_{};  ///< when the next request may go, were there no burst
};

}  // namespace anneal::kube
