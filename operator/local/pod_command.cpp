#include "operator/local/pod_command.h"

#include <algorithm>

namespace anneal::local {
namespace {

using kube::Json;

/// Host names of the pod's Service ("<host>.<subdomain>.<namespace>.svc") are this machine.
std::string RewriteHosts(std::string text, const std::string& suffix) {
  for (size_t at = 0; (at = text.find(suffix, at)) != std::string::npos;) {
    size_t begin = at;
    while (begin > 0 && (std::isalnum(static_cast<unsigned char>(text[begin - 1])) || text[begin - 1] == '-')) --begin;
    text.replace(begin, at + suffix.size() - begin, "127.0.0.1");
    at = begin;
  }
  return text;
}

bool Boundary(char c) { return !(std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.'); }

}  // namespace

std::string RewritePaths(const std::string& text, const PathMap& paths) {
  PathMap longest_first = paths;
  std::stable_sort(longest_first.begin(), longest_first.end(),
                   [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
  std::string out;
  for (size_t at = 0; at < text.size();) {
    // A path begins at the start, after something that is no part of a path, or after "file://".
    const bool begins = text[at] == '/' && (at == 0 || (Boundary(text[at - 1]) && text[at - 1] != '/') ||
                                            (at >= 7 && text.compare(at - 7, 7, "file://") == 0));
    const std::pair<std::string, std::string>* hit = nullptr;
    for (const auto& path : longest_first) {
      const size_t end = at + path.first.size();
      if (begins && text.compare(at, path.first.size(), path.first) == 0 && (end == text.size() || Boundary(text[end]))) {
        hit = &path;
        break;
      }
    }
    if (hit) {
      out += hit->second;
      at += hit->first.size();
    } else {
      out += text[at++];
    }
  }
  return out;
}

PodCommand MakePodCommand(const Json& pod, const PathMap& paths, const LocalNames& names) {
  const Json& container = pod["spec"]["containers"][0];
  const std::string ns = pod["metadata"].value("namespace", "default");
  const std::string suffix = "." + pod["spec"].value("subdomain", "") + "." + ns + ".svc";
  auto local = [&](const std::string& text) {
    return RewritePaths(suffix.size() > ns.size() + 6 ? RewriteHosts(text, suffix) : text, paths);
  };
  PodCommand command;
  for (const char* part : {"command", "args"}) {
    for (const Json& word : container.value(part, Json::array())) command.args.push_back(local(word));
  }
  if (!command.args.empty() && command.args[0] == "anneal") command.args[0] = names.programs + "/anneal";
  for (size_t i = 0; i + 1 < command.args.size(); ++i) {
    if (command.args[i] == "--") break;
    if (command.args[i] == "--master-port") command.args[i + 1] = std::to_string(names.master_port);
  }
  for (const Json& variable : container.value("env", Json::array())) {
    command.env[variable["name"]] = local(variable.value("value", ""));
  }
  if (command.env.count("MASTER_PORT")) command.env["MASTER_PORT"] = std::to_string(names.master_port);
  if (command.env.count("ANNEAL_PROGRESS_PORT")) {
    command.env["ANNEAL_PROGRESS_PORT"] = std::to_string(names.progress_port);
  }
  return command;
}

}  // namespace anneal::local
