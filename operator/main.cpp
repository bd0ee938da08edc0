// anneal-operator: runs TrainJobs, EvalJobs and ExportJobs.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "operator/api/schema.h"
#include "operator/local/run_command.h"
#include "operator/serve/probe_command.h"
#include "operator/serve/serve_command.h"
#include "worker/config/error.h"

namespace {

namespace fs = std::filesystem;

std::string OwnFolder() { return fs::read_symlink("/proc/self/exe").parent_path().string(); }

int WriteCrds(const std::string& folder) {
  fs::create_directories(folder);
  for (const auto& kind : anneal::api::Kinds()) {
    const std::string path = folder + "/" + kind.resource.plural + ".yaml";
    std::ofstream(path, std::ios::binary) << anneal::api::CrdYaml(kind);
    std::cout << path << "\n";
  }
  return 0;
}

int WriteApiDocs(const std::string& folder) {
  fs::create_directories(folder);
  for (const auto& kind : anneal::api::Kinds()) {
    const std::string path = folder + "/" + kind.singular + ".md";
    std::ofstream(path, std::ios::binary) << anneal::api::ApiReference(kind);
    std::cout << path << "\n";
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Runs recommender training, evaluation and export jobs from Kubernetes manifests."};
  app.set_version_flag("--version", "anneal-operator " ANNEAL_VERSION);
  app.require_subcommand(1);
  int status = 0;

  anneal::local::RunOptions run;
  run.programs = OwnFolder();
  auto* run_command = app.add_subcommand("run", "run the jobs of manifest files on this machine, without a cluster");
  run_command->add_option("FILE", run.files, "manifests (YAML files or folders of them)")->required();
  run_command->add_option("--state", run.state, "folder for objects, volumes and logs")->capture_default_str();
  run_command->add_option("--timeout", run.timeout_seconds, "stop after this many seconds (0: never)");
  run_command->callback([&] { status = anneal::local::RunCommand(run); });

  std::string state = "anneal-state", kind, name, output;
  bool follow = false;
  auto add_state = [&](CLI::App* command) {
    command->add_option("--state", state, "state folder of `run`")->capture_default_str();
  };
  auto* get = app.add_subcommand("get", "list objects of a state folder");
  add_state(get);
  get->add_option("KIND", kind, "trainjobs, evaljobs, exportjobs, pods, ... (default: all jobs)");
  get->add_option("NAME", name, "one object");
  get->add_option("-o,--output", output, "json");
  get->callback([&] { status = anneal::local::GetCommand(state, kind, name, output); });
  auto* describe = app.add_subcommand("describe", "show one object with its conditions and pods");
  add_state(describe);
  describe->add_option("KIND", kind)->required();
  describe->add_option("NAME", name)->required();
  describe->callback([&] { status = anneal::local::DescribeCommand(state, kind, name); });
  auto* logs = app.add_subcommand("logs", "print the log of a pod, or of all pods of a job");
  add_state(logs);
  logs->add_option("NAME", name, "pod or job")->required();
  logs->add_flag("-f,--follow", follow, "keep printing what is added (one pod)");
  logs->callback([&] { status = anneal::local::LogsCommand(state, name, follow); });

  anneal::serve::ServeOptions serve;
  auto* server = app.add_subcommand("serve", "run the jobs of a Kubernetes cluster, until SIGTERM");
  server->footer(
      "Without --kubeconfig: KUBECONFIG, then the pod's service account, then ~/.kube/config.\n"
      "Logs are lines on stderr; SIGUSR1 logs what is queued, SIGUSR2 turns debug lines on and off. /healthz and "
      "/readyz answer on the health address, "
      "/metrics on the metrics "
      "address.\n"
      "Exit codes: 0 stopped by a signal, 1 the lease was lost (start it again), 64 wrong configuration.");
  server->add_option("--kubeconfig", serve.kubeconfig, "kubeconfig file");
  server->add_option("--context", serve.context, "context of the kubeconfig (default: its current one)");
  server
      ->add_option("--watch-namespaces", serve.namespaces, "only these namespaces, separated by commas (default: all)")
      ->delimiter(',');
  server->add_option("--workers", serve.workers, "reconciles at a time, per kind")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  server->add_option("--metrics-address", serve.metrics_address, "host:port of /metrics; 0: none")
      ->capture_default_str();
  server->add_option("--health-address", serve.health_address, "host:port of /healthz and /readyz")
      ->capture_default_str();
  server->add_flag("--leader-elect,!--no-leader-elect", serve.leader_elect,
                   "only one replica at a time works (default: on)");
  const auto seconds = [&](const char* flag, int& value, const char* text) {
    server->add_option(flag, value, text)->check(CLI::Range(1, 3600))->capture_default_str();
  };
  seconds("--lease-seconds", serve.lease_seconds, "a lease that is not renewed ends after this");
  seconds("--renew-seconds", serve.renew_seconds, "a leader that could not renew its lease for so long stops");
  seconds("--retry-seconds", serve.retry_seconds, "seconds between two tries to take or renew the lease");
  server->add_option("--qps", serve.qps, "requests per second to the API server; 0: as it lets through")
      ->check(CLI::Range(0.0, 10000.0))
      ->capture_default_str();
  server->add_option("--burst", serve.burst, "requests that may come at once, with --qps")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  server
      ->add_option("--log-level", serve.log_level,
                   "debug (each reconcile, too), info or error; SIGUSR2 changes to debug and back")
      ->check(CLI::IsMember({"debug", "info", "error"}))
      ->capture_default_str();
  server->add_option("--log-format", serve.log_format, "json or text: one line each, on stderr")
      ->check(CLI::IsMember({"json", "text"}))
      ->capture_default_str();
  server->add_option("--lease-namespace", serve.lease_namespace,
                     "namespace of the lease (default: the operator's own)");
  server
      ->add_option("--progress-seconds", serve.progress_seconds,
                   "seconds between two looks at a running job's progress")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  server->callback([&] {
    // As client-go: a leader has to have stopped before another may begin.
    if (serve.lease_seconds <= serve.renew_seconds || serve.renew_seconds <= serve.retry_seconds)
      throw anneal::ConfigError("--lease-seconds must be more than --renew-seconds, that more than --retry-seconds");
    status = anneal::serve::ServeCommand(serve, ANNEAL_VERSION);
  });

  std::vector<std::string> urls;
  int patience = 30;
  auto* probe = app.add_subcommand("probe", "wait until URLs answer 200, e.g. an operator's /readyz");
  probe->add_option("URL", urls)->required();
  probe->add_option("--timeout", patience, "seconds for all of them")
      ->check(CLI::Range(0, 3600))
      ->capture_default_str();
  probe->callback([&] { status = anneal::serve::ProbeCommand(urls, std::chrono::seconds(patience)); });

  std::string folder = "crds";
  auto* crds = app.add_subcommand("crds", "write the CustomResourceDefinitions");
  crds->add_option("FOLDER", folder)->capture_default_str();
  crds->callback([&] { status = WriteCrds(folder); });

  std::string docs_folder = "docs/api";
  auto* api_docs = app.add_subcommand("api-docs", "write the API reference of each kind");
  api_docs->add_option("FOLDER", docs_folder)->capture_default_str();
  api_docs->callback([&] { status = WriteApiDocs(docs_folder); });

  try {
    if (argc > 1 && argv[1][0] != '-' &&
        app.get_subcommands([&](CLI::App* command) { return command->check_name(argv[1]); }).empty())
      throw anneal::ConfigError("there is no command '" + std::string(argv[1]) + "'; see anneal-operator --help");
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : static_cast<int>(anneal::ExitCode::kConfig);
  } catch (const anneal::Error& error) {
    std::cerr << "anneal-operator: " << error.what() << "\n";
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    std::cerr << "anneal-operator: " << error.what() << "\n";
    return 1;
  }
  return status;
}
