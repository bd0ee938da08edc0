#include "operator/local/manifests.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>

#include "operator/kube/merge_patch.h"
#include "worker/config/error.h"

namespace anneal::local {
namespace {

namespace fs = std::filesystem;
using kube::Json;
using kube::Resource;

/// YAML 1.2's core schema, as Kubernetes reads it: unquoted numbers and booleans are such, all else text.
Json ToJson(const YAML::Node& node, int depth = 0) {
  if (depth > 64) throw ConfigError("nested too deeply");
  switch (node.Type()) {
    case YAML::NodeType::Sequence: {
      Json list = Json::array();
      for (const auto& item : node) list.push_back(ToJson(item, depth + 1));
      return list;
    }
    case YAML::NodeType::Map: {
      Json map = Json::object();
      for (const auto& entry : node) map[entry.first.as<std::string>()] = ToJson(entry.second, depth + 1);
      return map;
    }
    case YAML::NodeType::Scalar: {
      const std::string text = node.Scalar();
      if (node.Tag() == "!") return text;  // quoted
      if (text == "true" || text == "false") return text == "true";
      if (text.empty() || text == "null" || text == "~") return nullptr;
      const Json number = Json::parse(text, nullptr, false);
      return number.is_number() ? number : Json(text);
    }
    default:
      return nullptr;
  }
}

const Resource* FindResource(const std::string& api_version, const std::string& kind) {
  using namespace kube::resources;  // NOLINT
  static const std::vector<Resource> known = {kTrainJob, kEvalJob, kExportJob, kConfigMap, kPersistentVolumeClaim};
  const auto found = std::find_if(known.begin(), known.end(),
                                  [&](const Resource& r) { return r.kind == kind && r.api_version() == api_version; });
  return found == known.end() ? nullptr : &*found;
}

void LoadFile(const std::string& path, std::vector<Manifest>& manifests) {
  std::vector<YAML::Node> documents;
  try {
    documents = YAML::LoadAllFromFile(path);
  } catch (const YAML::BadFile&) {
    throw ConfigError("cannot read " + path);
  } catch (const YAML::Exception& error) {
    throw ConfigError(path + ":" + std::to_string(error.mark.line + 1) + ":" + std::to_string(error.mark.column + 1) +
                      ": " + error.msg);
  }
  for (size_t i = 0; i < documents.size(); ++i) {
    if (documents[i].IsNull()) continue;
    Manifest manifest;
    manifest.where = path + (documents.size() > 1 ? ", document " + std::to_string(i + 1) : "");
    const std::string line = ":" + std::to_string(documents[i].Mark().line + 1);
    if (!documents[i].IsMap()) throw ConfigError(path + line + ": a manifest has to be a map");
    manifest.object = ToJson(documents[i]);
    const auto text = [&](const Json& object, const char* field, const std::string& where) -> std::string {
      const Json value = object.value(field, Json(""));
      if (!value.is_string())
        throw ConfigError(path + line + ": " + where + field + " has to be text, is " + value.dump());
      return value;
    };
    const std::string api_version = text(manifest.object, "apiVersion", ""), kind = text(manifest.object, "kind", "");
    if (kind == "Kustomization") continue;
    const Resource* resource = FindResource(api_version, kind);
    if (!resource) {
      throw ConfigError(path + line + ": kind '" + kind + "' of apiVersion '" + api_version +
                        "' is not one of TrainJob, EvalJob, ExportJob (anneal.dev/v1alpha1), ConfigMap, "
                        "PersistentVolumeClaim (v1)");
    }
    manifest.resource = *resource;
    if (!manifest.object.contains("metadata") || !manifest.object["metadata"].is_object() ||
        !manifest.object["metadata"].value("name", Json()).is_string()) {
      throw ConfigError(manifest.where + ": metadata.name is missing");
    }
    text(manifest.object["metadata"], "namespace", "metadata.");
    if (manifest.resource == kube::resources::kConfigMap) {
      const Json data = manifest.object.value("data", Json::object());
      if (!data.is_object()) throw ConfigError(path + line + ": data has to be a map");
      for (const auto& [key, value] : data.items()) text(data, key.c_str(), "data.");
    }
    manifests.push_back(std::move(manifest));
  }
}

}  // namespace

std::vector<Manifest> LoadManifests(const std::string& path) {
  std::vector<Manifest> manifests;
  if (fs::is_directory(path)) {
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator(path)) {
      const std::string extension = entry.path().extension();
      if (extension == ".yaml" || extension == ".yml") files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    for (const std::string& file : files) LoadFile(file, manifests);
  } else {
    LoadFile(path, manifests);
  }
  if (manifests.empty()) throw ConfigError(path + ": there is no manifest");
  return manifests;
}

Json Apply(kube::Api& api, const Manifest& manifest) {
  const std::string ns = manifest.object["metadata"].value("namespace", "default");
  const std::string name = manifest.object["metadata"]["name"];
  try {
    try {
      return api.Create(manifest.resource, ns, manifest.object);
    } catch (const kube::ApiError& error) {
      if (!error.already_exists()) throw;
    }
    Json patch = {{"metadata", Json::object()}};
    for (const char* field : {"labels", "annotations"}) {
      if (manifest.object["metadata"].contains(field)) patch["metadata"][field] = manifest.object["metadata"][field];
    }
    // What left the manifest leaves the object too.
    const Json current = api.Get(manifest.resource, ns, name);
    for (const auto& [field, value] : manifest.object.items()) {
      if (field == "metadata" || field == "apiVersion" || field == "kind" || field == "status") continue;
      const Json before = current.value(field, Json());
      patch[field] = before.is_object() && value.is_object() ? kube::MergePatchOf(before, value) : value;
    }
    return api.MergePatch(manifest.resource, ns, name, patch);
  } catch (const kube::ApiError& error) {
    throw ConfigError(manifest.where + ": " + error.what());
  }
}

}  // namespace anneal::local
