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

/// From seconds to days.
prometheus::Histogram::BucketBoundaries RunBuckets() {
  return {1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600};
}

double ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  double total = 0, resident = 0;
  file >> total >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

prometheus::Labels QueueLabels(const std::string& kind) { return {{"name", kind}, {"controller", kind}}; }

}  // namespace

Metrics::Metrics(int workers)
    : workers_(workers),
      reconciles_(
          BuildCounter().Name("controller_runtime_reconcile_total").Help("Reconciles by result").Register(registry_)),
      errors_(BuildCounter()
                  .Name("controller_runtime_reconcile_errors_total")
                  .Help("Failed reconciles")
                  .Register(registry_)),
      panics_(BuildCounter()
                  .Name("controller_runtime_reconcile_panics_total")
                  .Help("Reconciles that threw what nobody expects")
                  .Register(registry_)),
      requests_(
          BuildCounter().Name("rest_client_requests_total").Help("Requests to the API server").Register(registry_)),
      reconnects_(BuildCounter().Name("anneal_watch_reconnects_total").Help("Watches begun anew").Register(registry_)),
      reconcile_seconds_(BuildHistogram()
                             .Name("controller_runtime_reconcile_time_seconds")
                             .Help("Time of a reconcile")
                             .Register(registry_)),
      waited_seconds_(BuildHistogram()
                          .Name("workqueue_queue_duration_seconds")
                          .Help("Time that a key was due before somebody took it")
                          .Register(registry_)),
      work_seconds_(BuildHistogram()
                        .Name("workqueue_work_duration_seconds")
                        .Help("Time that a key was at work")
                        .Register(registry_)),
      request_seconds_(
          BuildHistogram().Name("rest_client_request_duration_seconds").Help("Time of a request").Register(registry_)),
      phase_seconds_(BuildHistogram()
                         .Name("anneal_job_phase_seconds")
                         .Help("Time from a run's begin until all workers run for the first time, or to its end")
                         .Register(registry_)),
      adds_(BuildCounter().Name("workqueue_adds_total").Help("Keys that became due").Register(registry_)),
      retries_(BuildCounter().Name("workqueue_retries_total").Help("Tries that were put off").Register(registry_)),
      transitions_(
          BuildCounter().Name("anneal_job_transitions_total").Help("Phases that jobs came to").Register(registry_)),
      restarts_(BuildCounter()
                    .Name("anneal_job_restarts_total")
                    .Help("Restarts of all workers of a job, by what they follow from")
                    .Register(registry_)),
      depth_(BuildGauge().Name("workqueue_depth").Help("Keys that wait").Register(registry_)),
      unfinished_(BuildGauge()
                      .Name("workqueue_unfinished_work_seconds")
                      .Help("Time that the keys at work have taken so far, all together")
                      .Register(registry_)),
      longest_(BuildGauge()
                   .Name("workqueue_longest_running_processor_seconds")
                   .Help("Time that the oldest key at work has taken so far")
                   .Register(registry_)),
      active_(BuildGauge().Name("controller_runtime_active_workers").Help("Workers at work").Register(registry_)),
      most_active_(
          BuildGauge().Name("controller_runtime_max_concurrent_reconciles").Help("Workers").Register(registry_)),
      jobs_(BuildGauge().Name("anneal_jobs").Help("Jobs by phase").Register(registry_)),
      followed_(BuildGauge().Name("anneal_followed_objects").Help("Objects followed by watches").Register(registry_)),
      leader_(BuildGauge().Name("leader_election_master_status").Help("1 = this replica leads").Register(registry_)),
      memory_(BuildGauge().Name("process_resident_memory_bytes").Help("Resident memory").Register(registry_)) {}

void Metrics::Reconciled(const ManagerOptions::Reconciled& done) {
  const prometheus::Labels of_kind = {{"controller", done.kind}}, of_queue = QueueLabels(done.kind);
  reconciles_.Add({{"controller", done.kind}, {"result", done.result}}).Increment();
  if (done.result == "error") errors_.Add(of_kind).Increment();
  if (done.unexpected) panics_.Add(of_kind).Increment();
  reconcile_seconds_.Add(of_kind, Buckets()).Observe(done.took);
  waited_seconds_.Add(of_queue, Buckets()).Observe(done.waited);
  work_seconds_.Add(of_queue, Buckets()).Observe(done.took);
}

void Metrics::SetKind(const Manager::KindState& state) {
  const prometheus::Labels of_kind = {{"controller", state.kind}}, of_queue = QueueLabels(state.kind);
  const std::lock_guard lock(mutex_);  // two scrapes at once would count twice
  const auto advance = [](prometheus::Counter& counter, uint64_t total) {
    counter.Increment(static_cast<double>(total) - counter.Value());
  };
  advance(adds_.Add(of_queue), state.queue.adds);
  advance(retries_.Add(of_queue), state.queue.retries);
  depth_.Add(of_queue).Set(static_cast<double>(state.queue.depth));
  unfinished_.Add(of_queue).Set(state.queue.unfinished);
  longest_.Add(of_queue).Set(state.queue.longest);
  active_.Add(of_kind).Set(static_cast<double>(state.queue.active));
  most_active_.Add(of_kind).Set(workers_);
  auto& known = phases_[state.kind];
  for (const auto& [phase, gauge] : known) gauge->Set(0);
  for (const auto& [phase, count] : state.phases) {
    prometheus::Gauge*& gauge = known[phase];
    if (!gauge) gauge = &jobs_.Add({{"kind", state.kind}, {"phase", phase.empty() ? "Pending" : phase}});
    gauge->Increment(static_cast<double>(count));
  }
}

void Metrics::Requested(const std::string& code, const std::string& method, double seconds) {
  requests_.Add({{"code", code}, {"method", method}}).Increment();
  if (method != "WATCH") request_seconds_.Add({{"verb", method}}, Buckets()).Observe(seconds);
}

void Metrics::Reconnected(const std::string& plural, const std::string& reason) {
  reconnects_.Add({{"kind", plural}, {"reason", reason}}).Increment();
}

void Metrics::PhaseReached(const std::string& kind, const std::string& phase, std::optional<double> seconds) {
  const prometheus::Labels labels = {{"kind", kind}, {"phase", phase}};
  transitions_.Add(labels).Increment();
  if (seconds) phase_seconds_.Add(labels, RunBuckets()).Observe(*seconds);
}

void Metrics::Restarted(const std::string& kind, const std::string& reason) {
  restarts_.Add({{"kind", kind}, {"reason", reason}}).Increment();
}

void Metrics::SetFollowed(size_t objects) { followed_.Add({}).Set(static_cast<double>(objects)); }

void Metrics::SetLeader(bool leads) { leader_.Add({{"name", "anneal-operator"}}).Set(leads ? 1 : 0); }

std::string Metrics::Text() const {
  memory_.Add({}).Set(ResidentBytes());
  return prometheus::TextSerializer().Serialize(registry_.Collect());
}

namespace {

struct Answer {
  web::http::status_code code = 404;
  std::string text = "there are /healthz, /livez, /readyz, each with ?verbose, and /metrics";
};

/// Of one check alone unless `name` is "".
Answer Judge(const std::string& what, const StatusServer::Checks& checks, const std::string& name, bool verbose) {
  std::string lines;
  bool well = true, known = name.empty();
  for (const auto& check : checks) {
    if (!name.empty() && check.name != name) continue;
    known = true;
    const std::string fault = check.ask();
    lines += fault.empty() ? "[+]" + check.name + " ok\n" : "[-]" + check.name + " failed: " + fault + "\n";
    well = well && fault.empty();
  }
  if (!known) return {};
  if (well && !verbose) return {200, "ok"};
  return {static_cast<web::http::status_code>(well ? 200 : 503),
          lines + what + " check " + (well ? "passed" : "failed") + "\n"};
}

}  // namespace

struct StatusServer::Listener {
  explicit Listener(const web::uri& where) : http(where) {}
  web::http::experimental::listener::http_listener http;
};

StatusServer::StatusServer(const std::string& address, Checks healthy, Checks ready,
                           std::function<std::string()> metrics)
    : listener_(std::make_unique<Listener>(web::uri("http://" + address))) {
  listener_->http.support(web::http::methods::GET, [healthy, ready, metrics](const web::http::http_request& request) {
    const std::string path = request.relative_uri().path();
    if (path == "/metrics" && metrics) {
      request.reply(200, metrics(), "text/plain; version=0.0.4; charset=utf-8");
      return;
    }
    const size_t slash = path.find('/', 1);
    const std::string what = path.substr(1, slash - 1), name = slash == std::string::npos ? "" : path.substr(slash + 1);
    Answer answer;
    if (what == "healthz" || what == "livez" || what == "readyz")
      answer = Judge(what, what == "readyz" ? ready : healthy, name,
                     ("&" + request.relative_uri().query()).find("&verbose") != std::string::npos);
    request.reply(answer.code, answer.text, "text/plain; charset=utf-8");
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
