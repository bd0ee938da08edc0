// anneal-operator serve as a process: start, leadership, metrics, signals, namespaces.
#include <cpprest/http_client.h>
#include <gtest/gtest.h>

#include "operator/local/manifests.h"
#include "tests/operator/served_cluster.h"

namespace anneal::tests {
namespace {

using anneal::testing::Process;
using anneal::testing::ServedCluster;
using kube::Json;
namespace resources = kube::resources;

/// Below those that the kernel gives to outgoing connections: nobody gets it by chance before it is used.
int FreePort() {
  static std::minstd_rand random(std::random_device{}());
  boost::asio::io_context io;
  for (;;) {
    const auto port = static_cast<uint16_t>(10000 + random() % 6000);
    try {
      return boost::asio::ip::tcp::acceptor(io, {boost::asio::ip::address_v4::loopback(), port})
          .local_endpoint()
          .port();
    } catch (const boost::system::system_error&) {
    }
  }
}

bool Eventually(const std::function<bool()>& test) {
  for (int i = 0; i < 3000; ++i) {
    if (test()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

class Serve : public ::testing::Test {
 protected:
  struct Operator {
    std::string health = "127.0.0.1:" + std::to_string(FreePort()), metrics = "127.0.0.1:" + std::to_string(FreePort());
    std::unique_ptr<Process> process;

    /// Status and body; 0 while nobody answers.
    std::pair<int, std::string> Ask(const std::string& address, const std::string& path) const {
      try {
        const auto reply = web::http::client::http_client("http://" + address).request("GET", path).get();
        return {reply.status_code(), reply.extract_utf8string(true).get()};
      } catch (const std::exception&) {
        return {0, ""};
      }
    }
    bool Says(const std::string& words) const { return process->log().find(words) != std::string::npos; }
  };

  Operator Start(const std::string& log, const std::vector<std::string>& more = {}) {
    Operator one;
    std::vector<std::string> command = {std::string(ANNEAL_BINARY_DIR) + "/bin/anneal-operator",
                                        "serve",
                                        "--kubeconfig=" + cluster.Kubeconfig("s3cr3t"),
                                        "--health-address=" + one.health,
                                        "--metrics-address=" + one.metrics,
                                        "--retry-seconds=1"};
    command.insert(command.end(), more.begin(), more.end());
    one.process = std::make_unique<Process>(command, log);
    return one;
  }
  void Apply(const std::string& ns) {
    const std::string folder = std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/";
    for (const char* file : {"configmap.yaml", "trainjob.yaml"}) {
      for (auto manifest : local::LoadManifests(folder + file)) {
        manifest.object["metadata"]["namespace"] = ns;
        local::Apply(cluster.api, manifest);
      }
    }
  }
  size_t Pods(const std::string& ns) { return cluster.api.List(resources::kPod, ns, {}).items.size(); }
  Json Lease() { return cluster.api.Get(resources::kLease, "system", "anneal-operator")["spec"]; }

  ServedCluster cluster;
};

TEST_F(Serve, ALifeFromTheFirstLeaseToSigterm) {
  Apply("default");
  Operator one = Start("one.log");
  ASSERT_TRUE(Eventually([&] { return Pods("default") == 2; })) << one.process->log();
  for (const char* path : {"/healthz", "/livez", "/readyz"}) EXPECT_EQ(one.Ask(one.health, path).first, 200) << path;
  EXPECT_EQ(one.Ask(one.health, "/metrics").first, 404);  // on an address of its own
  const auto answers = [&](const char* path) { return one.Ask(one.health, path); };
  EXPECT_EQ(answers("/healthz").second, "ok");
  EXPECT_EQ(answers("/readyz?verbose").second, "[+]running ok\n[+]lists ok\nreadyz check passed\n");
  EXPECT_EQ(answers("/livez?verbose=1&timeout=3s").second, "[+]lease ok\nlivez check passed\n");
  EXPECT_EQ(answers("/readyz/lists").second, "ok");
  EXPECT_EQ(answers("/readyz/other").first, 404);

  // Names and labels are those of Go operators' dashboards; no label holds a job's name.
  std::string metrics;
  for (const char* series : {"controller_runtime_reconcile_total{controller=\"TrainJob\",result=\"",
                             "controller_runtime_reconcile_time_seconds_bucket{controller=\"TrainJob\",le=\"",
                             "workqueue_depth{controller=\"TrainJob\",name=\"TrainJob\"}",
                             "workqueue_adds_total{controller=\"TrainJob\",name=\"TrainJob\"} ",
                             "workqueue_queue_duration_seconds_bucket{controller=\"TrainJob\",name=\"TrainJob\",le=\"",
                             "workqueue_unfinished_work_seconds{controller=\"TrainJob\",name=\"TrainJob\"} ",
                             "controller_runtime_active_workers{controller=\"TrainJob\"} ",
                             "controller_runtime_max_concurrent_reconciles{controller=\"TrainJob\"} 4",
                             "anneal_jobs{kind=\"TrainJob\",phase=\"",
                             "anneal_job_transitions_total{kind=\"TrainJob\",phase=\"Starting\"} 1",
                             "rest_client_requests_total{code=\"200\",method=\"POST\"}",
                             "rest_client_requests_total{code=\"200\",method=\"WATCH\"}",
                             "rest_client_request_duration_seconds_count{verb=\"GET\"}",
                             "leader_election_master_status{name=\"anneal-operator\"} 1", "anneal_followed_objects ",
                             "process_resident_memory_bytes "}) {
    // Each comes with the first thing that it counts: a watch begins after the first list, and that may be after a
    // reconcile.
    EXPECT_TRUE(Eventually([&] {
      metrics = one.Ask(one.metrics, "/metrics").second;
      return metrics.find(series) != std::string::npos;
    })) << series
        << "\n"
        << metrics;
  }
  EXPECT_EQ(metrics.find("movielens"), std::string::npos);

  one.process->Signal(SIGUSR1);
  EXPECT_TRUE(Eventually([&] { return one.Says("\"msg\":\"state\""); }));
  // Every reconcile is told from now on, until the level is changed back.
  EXPECT_FALSE(one.Says("\"msg\":\"reconciled\""));
  one.process->Signal(SIGUSR2);
  EXPECT_TRUE(Eventually([&] { return one.Says("\"now\":\"debug\""); }));
  Apply("told");
  EXPECT_TRUE(Eventually([&] { return one.Says("\"namespace\":\"told\""); })) << one.process->log();
  EXPECT_TRUE(one.Says("\"msg\":\"reconciled\""));
  one.process->Signal(SIGUSR2);
  EXPECT_TRUE(Eventually([&] { return one.Says("\"now\":\"info\""); }));
  Apply("quiet");
  EXPECT_TRUE(Eventually([&] { return Pods("quiet") == 2; }));
  EXPECT_FALSE(one.Says("\"namespace\":\"quiet\""));
  EXPECT_NE(Lease()["holderIdentity"], "");
  one.process->Signal(SIGTERM);
  EXPECT_EQ(one.process->Wait(), 0);
  EXPECT_EQ(Lease()["holderIdentity"], "");  // the next one need not wait

  std::istringstream lines(one.process->log());
  std::vector<std::string> said;
  for (std::string line; std::getline(lines, line);) {
    const Json entry = Json::parse(line, nullptr, false);
    ASSERT_TRUE(entry.is_object()) << line;
    EXPECT_TRUE(kube::ParseTime(entry.value("ts", ""))) << line;
    EXPECT_TRUE(entry.contains("level")) << line;
    said.push_back(entry.value("msg", ""));
    if (said.back() == "state") {
      EXPECT_EQ(entry["leading"], true);
      EXPECT_GE(entry["followed"], 1);  // the job; its pods when their watch has told
      EXPECT_TRUE(entry["queued"].contains("TrainJob")) << line;
    }
  }
  EXPECT_EQ(said.front(), "starting");
  EXPECT_EQ(said.back(), "stopped");
  EXPECT_EQ(one.process->log().find("s3cr3t"), std::string::npos);
}

/// Somebody who asks once and keeps the connection.
struct KeptConnection {
  explicit KeptConnection(const std::string& address) {
    socket.connect({boost::asio::ip::address_v4::loopback(),
                    static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)))});
    boost::asio::write(socket, boost::asio::buffer(std::string("GET /readyz HTTP/1.1\r\nHost: here\r\n\r\n")));
    char answer[512];
    EXPECT_GT(socket.read_some(boost::asio::buffer(answer)), 0u);
  }
  boost::asio::io_context io;
  boost::asio::ip::tcp::socket socket{io};
};

TEST_F(Serve, ConnectionsThatOthersKeepDoNotDelayTheEnd) {
  Operator one = Start("one.log");
  const auto answers = [&] {
    return one.Ask(one.health, "/readyz").first == 200 && one.Ask(one.metrics, "/metrics").first == 200;
  };
  ASSERT_TRUE(Eventually(answers)) << one.process->log();
  const KeptConnection probe(one.health), scraper(one.metrics), other(one.metrics);
  one.process->Signal(SIGTERM);
  EXPECT_EQ(one.process->Wait(), 0);
}

TEST_F(Serve, AStandbyIsReadyWritesNothingAndTakesOver) {
  Operator one = Start("one.log");
  ASSERT_TRUE(Eventually([&] { return one.Says("leading"); })) << one.process->log();
  const std::string holder = Lease()["holderIdentity"];
  Operator two = Start("two.log");
  const auto answers = [&] {
    return two.Ask(two.health, "/readyz").first == 200 && two.Ask(two.metrics, "/metrics").first == 200;
  };
  ASSERT_TRUE(Eventually(answers)) << two.process->log();
  EXPECT_NE(two.Ask(two.metrics, "/metrics").second.find("leader_election_master_status{name=\"anneal-operator\"} 0"),
            std::string::npos);
  EXPECT_EQ(Lease()["holderIdentity"], holder);
  EXPECT_FALSE(two.Says("leading"));
  one.process->Signal(SIGTERM);
  EXPECT_EQ(one.process->Wait(), 0);
  Apply("default");
  EXPECT_TRUE(Eventually([&] { return Pods("default") == 2; })) << two.process->log();
  EXPECT_TRUE(two.Says("leading"));
}

TEST_F(Serve, ALostLeaseEndsTheProcess) {
  Operator one = Start("one.log");
  ASSERT_TRUE(Eventually([&] { return one.Says("leading"); })) << one.process->log();
  cluster.api.MergePatch(resources::kLease, "system", "anneal-operator", {{"spec", {{"holderIdentity", "another"}}}});
  EXPECT_EQ(one.process->Wait(), 1);
  EXPECT_TRUE(one.Says("the lease is lost"));
  EXPECT_EQ(Lease()["holderIdentity"], "another");
}

TEST_F(Serve, OnlyItsNamespacesAreEverAskedFor) {
  for (const char* ns : {"a", "b", "c"}) Apply(ns);
  Operator one = Start("one.log", {"--watch-namespaces=a,b"});
  EXPECT_TRUE(Eventually([&] { return Pods("a") == 2 && Pods("b") == 2; })) << one.process->log();
  one.process->Signal(SIGTERM);
  EXPECT_EQ(one.process->Wait(), 0);
  EXPECT_EQ(Pods("c"), 0u);
  EXPECT_EQ(cluster.namespaces(), (std::set<std::string>{"a", "b"}));
}

}  // namespace
}  // namespace anneal::tests
