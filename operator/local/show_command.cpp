// get, describe and logs on a state folder: the objects are read from disk, so they work while `run` runs and after.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <thread>

#include "operator/api/schema.h"
#include "operator/local/process_runner.h"
#include "operator/local/run_command.h"
#include "operator/local/table.h"
#include "worker/config/error.h"

namespace anneal::local {
namespace {

namespace fs = std::filesystem;
using kube::Json;

const std::vector<kube::Resource>& Shown() {
  using namespace kube::resources;  // NOLINT
  static const std::vector<kube::Resource> all = {kTrainJob, kEvalJob, kExportJob, kPod, kConfigMap, kService,
                                                  kPersistentVolumeClaim};
  return all;
}

kube::Resource ResourceNamed(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(), ::tolower);
  for (const kube::Resource& resource : Shown()) {
    std::string kind = resource.kind;
    std::transform(kind.begin(), kind.end(), kind.begin(), ::tolower);
    const api::Kind* known = api::FindKind(resource);
    if (name == kind || name == resource.plural || (known && name == known->short_name)) return resource;
  }
  throw ConfigError("there is no kind '" + name + "'; one of trainjobs, evaljobs, exportjobs, pods, configmaps, "
                    "services, persistentvolumeclaims");
}

std::vector<Json> Load(const std::string& state, const kube::Resource& resource) {
  const fs::path folder = fs::path(state) / "objects" / (resource.plural + (resource.group.empty() ? "" : "." + resource.group));
  if (!fs::exists(fs::path(state) / "objects")) throw ConfigError(state + " holds no state of `anneal-operator run`");
  std::vector<Json> objects;
  if (!fs::exists(folder)) return objects;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    std::ifstream in(entry.path());
    const Json stored = Json::parse(in, nullptr, false);
    if (stored.is_object() && stored.contains("object")) objects.push_back(stored["object"]);
  }
  std::sort(objects.begin(), objects.end(), [](const Json& a, const Json& b) {
    return a["metadata"]["name"].get<std::string>() < b["metadata"]["name"].get<std::string>();
  });
  return objects;
}

Json LoadOne(const std::string& state, const kube::Resource& resource, const std::string& name) {
  for (const Json& object : Load(state, resource)) {
    if (object["metadata"]["name"] == name) return object;
  }
  throw ConfigError(resource.plural + " \"" + name + "\" not found");
}

void PrintTree(const Json& value, int indent) {
  for (const auto& [key, item] : value.items()) {
    std::cout << std::string(indent, ' ') << key << ":";
    if ((item.is_object() || item.is_array()) && !item.empty()) {
      std::cout << "\n";
      if (item.is_object()) {
        PrintTree(item, indent + 2);
      } else {
        for (const Json& entry : item) std::cout << std::string(indent + 2, ' ') << "- " << entry.dump() << "\n";
      }
    } else {
      std::string text = item.is_string() ? item.get<std::string>() : item.dump();
      if (text.find('\n') != std::string::npos) text = "(" + std::to_string(text.size()) + " characters)";
      std::cout << "  " << text << "\n";
    }
  }
}

}  // namespace

int GetCommand(const std::string& state, const std::string& kind, const std::string& name, const std::string& output) {
  const auto now = std::chrono::system_clock::now();
  std::vector<kube::Resource> resources;
  if (kind.empty() || kind == "all" || kind == "anneal") {
    for (const auto& known : api::Kinds()) resources.push_back(known.resource);
  } else {
    resources.push_back(ResourceNamed(kind));
  }
  bool first = true;
  for (const kube::Resource& resource : resources) {
    std::vector<Json> objects = name.empty() ? Load(state, resource) : std::vector<Json>{LoadOne(state, resource, name)};
    if (output == "json") {
      if (!name.empty()) {
        std::cout << objects.front().dump(2) << "\n";
      } else {
        std::cout << Json{{"apiVersion", "v1"}, {"kind", "List"}, {"items", objects}}.dump(2) << "\n";
      }
      continue;
    }
    if (objects.empty()) continue;
    if (resources.size() > 1) std::cout << (first ? "" : "\n") << resource.plural << "\n";
    first = false;
    std::cout << AlignColumns(KindTable(resource, objects, now));
  }
  if (first && output != "json") std::cout << "No resources found.\n";
  return 0;
}

int DescribeCommand(const std::string& state, const std::string& kind, const std::string& name) {
  const Json object = LoadOne(state, ResourceNamed(kind), name);
  const Json& metadata = object["metadata"];
  std::cout << "Name:       " << name << "\nNamespace:  " << metadata.value("namespace", "") << "\nKind:       "
            << object.value("kind", "") << "\nCreated:    " << metadata.value("creationTimestamp", "") << "\n";
  if (object.contains("spec")) {
    std::cout << "Spec:\n";
    PrintTree(object["spec"], 2);
  }
  Json status = object.value("status", Json::object());
  if (status.contains("conditions")) {
    std::vector<std::vector<std::string>> rows = {{"  TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"}};
    for (const Json& c : status["conditions"]) {
      rows.push_back({"  " + c.value("type", ""), c.value("status", ""), c.value("reason", ""),
                      c.value("lastTransitionTime", ""), c.value("message", "")});
    }
    std::cout << "Conditions:\n" << AlignColumns(rows);
    status.erase("conditions");
  }
  std::cout << "Status:\n";
  PrintTree(status, 2);
  std::vector<std::vector<std::string>> pods = {{"  NAME", "STATUS", "EXIT CODE", "LOG"}};
  for (const Json& pod : Load(state, kube::resources::kPod)) {
    if (pod["metadata"].value("labels", Json::object()).value("anneal.dev/job-name", "") != name) continue;
    const Json::json_pointer code("/status/containerStatuses/0/state/terminated/exitCode");
    const std::string pod_name = pod["metadata"]["name"], ns = pod["metadata"].value("namespace", "");
    pods.push_back({"  " + pod_name, pod.value("status", Json::object()).value("phase", "Pending"),
                    pod.contains(code) ? pod.at(code).dump() : "", ProcessRunner::LogPath(state, ns, pod_name)});
  }
  if (pods.size() > 1) std::cout << "Pods:\n" << AlignColumns(pods);
  return 0;
}

int LogsCommand(const std::string& state, const std::string& name, bool follow) {
  const fs::path folder = fs::path(state) / "logs";
  if (!fs::exists(folder)) throw ConfigError(state + " holds no logs of `anneal-operator run`");
  // A pod, or every pod of a job in the order they were made.
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const std::string pod = entry.path().stem();
    if (pod == name || (pod.size() > name.size() + 2 && pod.starts_with(name + "-r") && std::isdigit(static_cast<unsigned char>(pod[name.size() + 2])))) {
      files.push_back(entry.path());
    }
  }
  if (files.empty()) throw ConfigError("there are no logs of pod or job '" + name + "' in " + folder.string());
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    if (files.size() > 1) std::cout << "==> " << file.stem().string() << " <==\n";
    std::ifstream in(file, std::ios::binary);
    if (in.peek() != std::ifstream::traits_type::eof()) std::cout << in.rdbuf();
    in.clear();
    while (follow && files.size() == 1) {
      std::cout << std::flush;
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      std::string more((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
      in.clear();
      std::cout << more;
    }
  }
  std::cout << std::flush;
  return 0;
}

}  // namespace anneal::local
