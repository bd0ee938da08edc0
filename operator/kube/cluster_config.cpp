#include "operator/kube/cluster_config.h"

#include <openssl/evp.h>
#include <yaml-cpp/yaml.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "operator/kube/reconciler.h"
#include "worker/config/error.h"

namespace anneal::kube {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

std::string Text(const YAML::Node& node, const char* field) {
  if (!node.IsMap() || !node[field] || node[field].IsNull()) return "";
  return node[field].as<std::string>();
}

/// The entry of that name in one of the lists of a kubeconfig.
YAML::Node Named(const YAML::Node& root, const std::string& list, const std::string& item, const std::string& name,
                 const std::string& path) {
  if (root[list] && root[list].IsSequence()) {
    for (const YAML::Node& entry : root[list]) {
      if (Text(entry, "name") == name && entry[item] && entry[item].IsMap()) return entry[item];
    }
  }
  throw ConfigError(path + ": " + list + ": no entry named \"" + name + "\"");
}

std::string Decode(const std::string& text, const std::string& field, const std::string& path) {
  std::string packed;
  for (const char c : text) {
    if (!std::isspace(static_cast<unsigned char>(c))) packed += c;
  }
  std::string bytes(packed.size() / 4 * 3 + 3, '\0');
  const int size =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                      reinterpret_cast<const unsigned char*>(packed.data()), static_cast<int>(packed.size()));
  if (size < 0) throw ConfigError(path + ": " + field + ": not base64");
  size_t padding = 0;
  while (padding < 2 && padding < packed.size() && packed[packed.size() - 1 - padding] == '=') ++padding;
  bytes.resize(static_cast<size_t>(size) - padding);
  return bytes;
}

std::string Resolve(const std::string& file, const std::string& path) {
  return file.empty() || file[0] == '/' ? file : (fs::absolute(path).parent_path() / file).string();
}

std::string Quote(const std::string& word) {
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw ConfigError("cannot read " + path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

ClusterConfig LoadKubeconfig(const std::string& path, const std::string& context) {
  ClusterConfig config;
  try {
    const YAML::Node root = YAML::Load(ReadFile(path));
    if (!root.IsMap()) throw ConfigError(path + ": not a kubeconfig");
    const std::string chosen = context.empty() ? Text(root, "current-context") : context;
    if (chosen.empty()) throw ConfigError(path + ": current-context is not set; name one with --context");
    const YAML::Node use = Named(root, "contexts", "context", chosen, path);
    const YAML::Node cluster = Named(root, "clusters", "cluster", Text(use, "cluster"), path);
    const YAML::Node user = Named(root, "users", "user", Text(use, "user"), path);
    if (!Text(use, "namespace").empty()) config.default_namespace = Text(use, "namespace");
    config.server = Text(cluster, "server");
    if (config.server.rfind("https://", 0) != 0 && config.server.rfind("http://", 0) != 0) {
      throw ConfigError(path + ": clusters." + Text(use, "cluster") + ".server: not a URL: \"" + config.server + "\"");
    }
    config.insecure = Text(cluster, "insecure-skip-tls-verify") == "true";
    auto pem = [&](const YAML::Node& node, const std::string& name, std::string& file, std::string& data) {
      const std::string field = name + "-data";
      if (!Text(node, field.c_str()).empty()) {
        data = Decode(Text(node, field.c_str()), field, path);
      } else {
        file = Resolve(Text(node, name.c_str()), path);
      }
    };
    pem(cluster, "certificate-authority", config.ca_file, config.ca_pem);
    pem(user, "client-certificate", config.cert_file, config.cert_pem);
    pem(user, "client-key", config.key_file, config.key_pem);
    config.token = Text(user, "token");
    config.token_file = Resolve(Text(user, "tokenFile"), path);
    if (const YAML::Node exec = user["exec"]; exec && exec.IsMap()) {
      config.exec.api_version = Text(exec, "apiVersion");
      config.exec.command = Text(exec, "command");
      if (config.exec.command.empty())
        throw ConfigError(path + ": users." + Text(use, "user") + ".exec.command is not set");
      if (exec["args"]) config.exec.args = exec["args"].as<std::vector<std::string>>();
      if (exec["env"]) {
        for (const YAML::Node& variable : exec["env"])
          config.exec.env[Text(variable, "name")] = Text(variable, "value");
      }
    }
  } catch (const YAML::Exception& error) {
    throw ConfigError(path + ":" + std::to_string(error.mark.line + 1) + ": " + error.msg);
  }
  return config;
}

ClusterConfig InCluster(const std::string& folder) {
  const char* host = std::getenv("KUBERNETES_SERVICE_HOST");
  const char* port = std::getenv("KUBERNETES_SERVICE_PORT");
  if (!host || !port || !*host || !*port) throw ConfigError("KUBERNETES_SERVICE_HOST is not set: not in a pod");
  const bool v6 = std::string(host).find(':') != std::string::npos;
  ClusterConfig config;
  config.server = std::string("https://") + (v6 ? "[" : "") + host + (v6 ? "]" : "") + ":" + port;
  config.ca_file = folder + "/ca.crt";
  config.token_file = folder + "/token";
  if (fs::exists(folder + "/namespace")) config.default_namespace = ReadFile(folder + "/namespace");
  return config;
}

ClusterConfig FindClusterConfig(const std::string& path, const std::string& context) {
  if (!path.empty()) return LoadKubeconfig(path, context);
  if (const char* files = std::getenv("KUBECONFIG"); files && *files) {
    const std::string list = files;
    return LoadKubeconfig(list.substr(0, list.find(':')), context);
  }
  if (std::getenv("KUBERNETES_SERVICE_HOST")) return InCluster();
  const char* home = std::getenv("HOME");
  const std::string file = std::string(home ? home : "") + "/.kube/config";
  if (fs::exists(file)) return LoadKubeconfig(file, context);
  throw ConfigError("no cluster: give --kubeconfig, set KUBECONFIG, or run in a pod");
}

std::string TokenSource::Token() {
  const std::lock_guard lock(mutex_);
  if (!config_.token_file.empty()) {
    if (steady_clock::now() < valid_until_) return cached_;
    try {
      cached_ = ReadFile(config_.token_file);
      while (!cached_.empty() && std::isspace(static_cast<unsigned char>(cached_.back()))) cached_.pop_back();
    } catch (const ConfigError&) {
      if (cached_.empty()) throw;  // else: the file is being replaced; the old token still serves
    }
    valid_until_ = steady_clock::now() + std::chrono::seconds(60);
    return cached_;
  }
  if (config_.exec.command.empty()) return config_.token;
  if (!cached_.empty() && steady_clock::now() < valid_until_) return cached_;
  std::string line;
  const nlohmann::json info = {
      {"apiVersion", config_.exec.api_version}, {"kind", "ExecCredential"}, {"spec", {{"interactive", false}}}};
  line = "KUBERNETES_EXEC_INFO=" + Quote(info.dump()) + " ";
  for (const auto& [name, value] : config_.exec.env) line += name + "=" + Quote(value) + " ";
  line += Quote(config_.exec.command);
  for (const std::string& arg : config_.exec.args) line += " " + Quote(arg);
  FILE* pipe = ::popen(line.c_str(), "r");
  if (!pipe) throw ConfigError("cannot start the exec plugin " + config_.exec.command);
  std::string text;
  char buffer[4096];
  for (size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, n);
  const int code = ::pclose(pipe);
  const nlohmann::json answer = nlohmann::json::parse(text, nullptr, false);
  const nlohmann::json status =
      answer.is_object() ? answer.value("status", nlohmann::json::object()) : nlohmann::json::object();
  if (code != 0 || !status.is_object() || !status.contains("token") || !status["token"].is_string()) {
    throw ConfigError("the exec plugin " + config_.exec.command + " gave no token");
  }
  cached_ = status["token"];
  valid_until_ = steady_clock::now() + std::chrono::minutes(10);
  if (status.contains("expirationTimestamp") && status["expirationTimestamp"].is_string()) {
    if (const auto end = ParseTime(status["expirationTimestamp"])) {
      valid_until_ = steady_clock::now() +
                     std::chrono::duration_cast<steady_clock::duration>(*end - std::chrono::system_clock::now()) -
                     std::chrono::seconds(10);
    }
  }
  return cached_;
}

void TokenSource::Invalidate() {
  const std::lock_guard lock(mutex_);
  valid_until_ = {};
}

}  // namespace anneal::kube
