#include "operator/kube/status_server.h"

#include <cpprest/http_listener.h>
#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <fstream>

#include "worker/config/error.h"

namespace anneal::kube {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;

/// controller-runtime's own buckets, thinned.
prometheus::Histogram::BucketBoundaries Buckets() {
  return {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
}

double ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  double total = 0, resident = 0;
  file >> total >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

Metrics::Metrics()
    : reconciles_(
          BuildCounter().Name("controller_runtime_reconcile_total").Help("Reconciles by result").Register(registry_)),
      errors_(BuildCounter()
                  .Name("controller_runtime_reconcile_errors_total")
                  .Help("Failed reconciles")
                  .Register(registry_)),
      requests_(
          BuildCounter().Name("rest_client_requests_total").Help("Requests to the API server").Register(registry_)),
      reconnects_(BuildCounter().Name("anneal_watch_reconnects_total").Help("Watches begun anew").Register(registry_)),
      reconcile_seconds_(BuildHistogram()
                             .Name("controller_runtime_reconcile_time_seconds")
                             .Help("Time of a reconcile")
                             .Register(registry_)),
      request_seconds_(
          BuildHistogram().Name("rest_client_request_duration_seconds").Help("Time of a request").Register(registry_)),
      depth_(BuildGauge().Name("workqueue_depth").Help("Keys that wait").Register(registry_)),
      followed_(BuildGauge().Name("anneal_followed_objects").Help("Objects followed by watches").Register(registry_)),
      leader_(BuildGauge().Name("leader_election_master_status").Help("1 = this replica leads").Register(registry_)),
      memory_(BuildGauge().Name("process_resident_memory_bytes").Help("Resident memory").Register(registry_)) {}

void Metrics::Reconciled(const std::string& controller, const std::string& result, double seconds) {
  reconciles_.Add({{"controller", controller}, {"result", result}}).Increment();
  if (result == "error") errors_.Add({{"controller", controller}}).Increment();
  reconcile_seconds_.Add({{"controller", controller}}, Buckets()).Observe(seconds);
}

void Metrics::Requested(const std::string& code, const std::string& method, double seconds) {
  requests_.Add({{"code", code}, {"method", method}}).Increment();
  if (method != "WATCH") request_seconds_.Add({{"verb", method}}, Buckets()).Observe(seconds);
}

void Metrics::Reconnected(const std::string& plural, const std::string& reason) {
  reconnects_.Add({{"kind", plural}, {"reason", reason}}).Increment();
}

void Metrics::SetDepth(const std::string& controller, size_t depth) {
  depth_.Add({{"name", controller}, {"controller", controller}}).Set(static_cast<double>(depth));
}

void Metrics::SetFollowed(size_t objects) { followed_.Add({}).Set(static_cast<double>(objects)); }

void Metrics::SetLeader(bool leads) { leader_.Add({{"name", "anneal-operator"}}).Set(leads ? 1 : 0); }

std::string Metrics::Text() const {
  memory_.Add({}).Set(ResidentBytes());
  return prometheus::TextSerializer().Serialize(registry_.Collect());
}

struct StatusServer::Listener {
  explicit Listener(const web::uri& where) : http(where) {}
  web::http::experimental::listener::http_listener http;
};

StatusServer::StatusServer(const std::string& address, Check healthy, Check ready, std::function<std::string()> metrics)
    : listener_(std::make_unique<Listener>(web::uri("http://" + address))) {
  listener_->http.support(web::http::methods::GET, [healthy, ready, metrics](const web::http::http_request& request) {
    const std::string path = request.relative_uri().path();
    auto check = [&](const Check& test) {
      const std::string fault = test ? test() : "";
      request.reply(fault.empty() ? 200 : 503, fault.empty() ? "ok" : fault, "text/plain; charset=utf-8");
    };
    if (path == "/healthz" || path == "/livez") return check(healthy);
    if (path == "/readyz") return check(ready);
    if (path == "/metrics" && metrics) {
      request.reply(200, metrics(), "text/plain; version=0.0.4; charset=utf-8");
      return;
    }
    request.reply(404, "there are /healthz, /livez, /readyz and /metrics", "text/plain; charset=utf-8");
  });
  try {
    listener_->http.open().get();
  } catch (const std::exception& error) {
    throw ConfigError("cannot listen on " + address + ": " + error.what());
  }
}

StatusServer::~StatusServer() {
  try {
    listener_->http.close().get();
  } catch (const std::exception&) {
  }
}

}  // namespace anneal::kube
