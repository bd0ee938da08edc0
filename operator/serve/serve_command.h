// anneal-operator serve: the operator of a cluster.
#pragma once

#include <string>
#include <vector>

namespace anneal::serve {

struct ServeOptions {
  std::string kubeconfig, context;      ///< "" = KUBECONFIG, the pod's service account, ~/.kube/config
  std::vector<std::string> namespaces;  ///< empty = all
  int workers = 4;                      ///< reconciles at a time, per kind
  std::string metrics_address = "0.0.0.0:8080", health_address = "0.0.0.0:8081";
  bool leader_elect = true;
  std::string lease_namespace;  ///< "" = the pod's own (kubeconfig: the context's)
  int lease_seconds = 15, renew_seconds = 10, retry_seconds = 2;
  double qps = 0;  ///< requests per second to the API server; 0 = no limit of our own
  int burst = 100;
  std::string log_level = "info";   ///< debug (each reconcile, too), info or error
  std::string log_format = "json";  ///< json or text
  int progress_seconds = 5;         ///< between two looks at a running job's /progress
};

/// Works until SIGTERM or SIGINT (returns 0) or until the lease is lost (returns 1: start again).
/// Logs are lines on stderr. SIGUSR1 logs what is queued and followed, SIGUSR2 turns debug lines on and off. Throws
/// anneal::ConfigError for a wrong configuration.
int ServeCommand(const ServeOptions& options, const std::string& version);

}  // namespace anneal::serve
