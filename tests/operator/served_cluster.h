// The in-memory API behind HTTPS, and the operator as a process that works on it.
#pragma once

#include <cpprest/base_uri.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <sstream>

#include "operator/api/schema.h"
#include "operator/local/memory_api.h"
#include "tests/operator/loopback_server.h"

namespace anneal::testing {

class ServedCluster {
 public:
  ServedCluster() : server_([this](const auto& request, auto& socket) { return Answer(request, socket); }) {}

  /// A kubeconfig whose token is `token` and whose namespace is "system".
  std::string Kubeconfig(const std::string& token) const {
    const kube::Json config = {
        {"current-context", "x"},
        {"contexts", {{{"name", "x"}, {"context", {{"cluster", "c"}, {"user", "u"}, {"namespace", "system"}}}}}},
        {"clusters",
         {{{"name", "c"},
           {"cluster", {{"server", server_.url()}, {"certificate-authority", CertificateFolder() + "/cert.pem"}}}}}},
        {"users", {{{"name", "u"}, {"user", {{"token", token}}}}}}};
    const std::string path = CertificateFolder() + "/serve-kubeconfig";
    std::ofstream(path) << config.dump();
    return path;
  }
  /// Namespaces of all requests but those for leases; "" = all namespaces.
  std::set<std::string> namespaces() {
    const std::lock_guard lock(mutex_);
    return namespaces_;
  }

  kube::Clock clock;
  local::MemoryApi api{{"", api::DefaultAndValidate}, clock};

 private:
  using Server = LoopbackServer;
  struct Target {
    kube::Resource resource;
    std::string ns, name, subresource;
    std::map<std::string, std::string> query;
  };

  static Target Parse(const std::string& text) {
    Target target;
    const web::uri uri(text);
    for (const auto& [name, value] : web::uri::split_query(uri.query())) target.query[name] = web::uri::decode(value);
    std::vector<std::string> parts = web::uri::split_path(uri.path());  // api/v1/... or apis/<group>/v1/...
    parts.erase(parts.begin(), parts.begin() + (parts.at(0) == "api" ? 2 : 3));
    if (parts.at(0) == "namespaces") {
      target.ns = parts.at(1);
      parts.erase(parts.begin(), parts.begin() + 2);
    }
    using namespace kube::resources;
    for (const auto& known :
         {kTrainJob, kEvalJob, kExportJob, kPod, kService, kConfigMap, kPersistentVolumeClaim, kEvent, kLease}) {
      if (known.plural == parts.at(0)) target.resource = known;
    }
    if (parts.size() > 1) target.name = parts[1];
    if (parts.size() > 2) target.subresource = parts[2];
    return target;
  }

  bool Answer(const Server::Request& request, Server::Socket& socket) {
    std::istringstream words(request.head);
    std::string method, path;
    words >> method >> path;
    Target target = Parse(path);
    const kube::Json body = request.body.empty() ? kube::Json() : kube::Json::parse(request.body);
    if (!(target.resource == kube::resources::kLease)) {
      const std::lock_guard lock(mutex_);
      namespaces_.insert(target.ns);
    }
    try {
      if (method == "GET" && target.name.empty() && target.query["watch"] == "true") return Stream(target, socket);
      return Server::Reply(socket, "200 OK", Act(method, target, body).dump());
    } catch (const kube::ApiError& error) {
      const kube::Json status = {{"kind", "Status"}, {"reason", error.reason()}, {"message", error.what()}};
      return Server::Reply(socket, std::to_string(error.status()) + " Error", status.dump());
    }
  }

  static kube::ListOptions Options(Target& target) {
    return {.label_selector = target.query["labelSelector"],
            .limit = std::atoi(target.query["limit"].c_str()),
            .continue_token = target.query["continue"],
            .resource_version = target.query["resourceVersion"]};
  }

  kube::Json Act(const std::string& method, Target& target, const kube::Json& body) {
    const auto& [resource, ns, name, subresource, query] = target;
    if (method == "POST") return api.Create(resource, ns, body);
    if (method == "PATCH" && subresource == "status") return api.MergePatchStatus(resource, ns, name, body);
    if (method == "PATCH") return api.MergePatch(resource, ns, name, body);
    if (method == "DELETE") {
      const kube::Json wanted = body.value("preconditions", kube::Json::object());
      kube::Preconditions preconditions;
      if (wanted.contains("uid")) preconditions.uid = wanted["uid"].get<std::string>();
      if (wanted.contains("resourceVersion"))
        preconditions.resource_version = wanted["resourceVersion"].get<std::string>();
      std::optional<int64_t> grace;
      if (body.contains("gracePeriodSeconds")) grace = body["gracePeriodSeconds"].get<int64_t>();
      api.Delete(resource, ns, name, preconditions, grace);
      return kube::Json::object();
    }
    if (!name.empty()) return api.Get(resource, ns, name);
    const kube::ListResult list = api.List(resource, ns, Options(target));
    return {{"metadata", {{"resourceVersion", list.resource_version}, {"continue", list.continue_token}}},
            {"items", list.items}};
  }

  bool Stream(Target& target, Server::Socket& socket) {
    static const char* const kTypes[] = {"ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"};
    const auto watch = api.StartWatch(target.resource, target.ns, Options(target));
    Server::BeginStream(socket);
    while (!server_.stopping && !watch->done()) {
      const auto event = watch->Next(std::chrono::milliseconds(20));
      if (!event) continue;
      const kube::Json frame = {{"type", kTypes[static_cast<int>(event->type)]}, {"object", event->object}};
      Server::Chunk(socket, frame.dump() + "\n");
    }
    return false;
  }

  std::mutex mutex_;
  std::set<std::string> namespaces_;
  Server server_;  // last: its threads end before anything else does
};

/// A child process whose stderr goes to a file.
class Process {
 public:
  Process(std::vector<std::string> command, std::string log) : log_(std::move(log)) {
    std::vector<char*> words;
    for (std::string& word : command) words.push_back(word.data());
    words.push_back(nullptr);
    std::ofstream(log_) << "";  // what an earlier process said is not this one's
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::dup2(::open(log_.c_str(), O_WRONLY | O_APPEND), 2);
    ::execv(words[0], words.data());
    ::_exit(127);
  }
  ~Process() {
    if (pid_ <= 0) return;
    Signal(SIGKILL);
    Wait();
  }
  void Signal(int number) const { ::kill(pid_, number); }
  /// Its exit code; 128 + n after signal n.
  int Wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::string log() const {
    std::ifstream in(log_);
    return {std::istreambuf_iterator<char>(in), {}};
  }

 private:
  std::string log_;
  pid_t pid_ = -1;
};

}  // namespace anneal::testing
