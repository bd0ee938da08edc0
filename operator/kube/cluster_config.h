// Where the API server is and who we are to it: a kubeconfig, or the files of a pod's service account.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace anneal::kube {

struct ExecPlugin {
  std::string api_version, command;
  std::vector<std::string> args;
  std::map<std::string, std::string> env;
};

struct ClusterConfig {
  std::string server;               ///< "https://10.0.0.1:443"
  std::string ca_file, ca_pem;      ///< trust; the file is read again when it changes. Both empty: the system's roots
  std::string cert_file, cert_pem;  ///< client certificate
  std::string key_file, key_pem;
  std::string token, token_file;  ///< the file is read again every minute and after a 401
  ExecPlugin exec;                ///< command empty: none
  bool insecure = false;          ///< kubeconfig's insecure-skip-tls-verify
  std::string default_namespace = "default";
};

/// Reads one kubeconfig. `context` "" = current-context. Relative paths are relative to the file.
/// Throws anneal::ConfigError that names the file and the field.
ClusterConfig LoadKubeconfig(const std::string& path, const std::string& context = "");

/// KUBERNETES_SERVICE_HOST/PORT and the service account's folder. Throws anneal::ConfigError outside a pod.
ClusterConfig InCluster(const std::string& folder = "/var/run/secrets/kubernetes.io/serviceaccount");

/// `path`, else the first file of KUBECONFIG, else in-cluster, else ~/.kube/config.
ClusterConfig FindClusterConfig(const std::string& path, const std::string& context);

/// The bearer token of a configuration, fresh. Thread safe.
class TokenSource {
 public:
  explicit TokenSource(const ClusterConfig& config) : config_(config) {}
  /// "" = none. A file is read again after a minute, an exec plugin is run again when its token expires.
  std::string Token();
  /// The server said 401: do not trust what is cached.
  void Invalidate();

 private:
  ClusterConfig config_;
  std::mutex mutex_;
  std::string cached_;
  std::chrono::steady_clock::time_point valid_until_{};
};

/// Whole file. Throws anneal::ConfigError.
std::string ReadFile(const std::string& path);

}  // namespace anneal::kube
