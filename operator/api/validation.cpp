// Defaulting and checking of a job against its schema, as the API server does it with the CRD.
#include <algorithm>
#include <map>
#include <regex>
#include <set>

#include "operator/api/schema.h"
#include "worker/config/source_map.h"

namespace anneal::api {
namespace {

using kube::Json;

class Checker {
 public:
  void Fill(const Json& schema, Json& value) {
    if (!value.is_object() || !schema.contains("properties")) {
      if (value.is_array() && schema.contains("items")) {
        for (Json& item : value) Fill(schema["items"], item);
      }
      return;
    }
    for (const auto& [name, property] : schema["properties"].items()) {
      if (value.contains(name) && value[name].is_null()) value.erase(name);
      if (!value.contains(name) && property.contains("default")) value[name] = property["default"];
      if (value.contains(name)) Fill(property, value[name]);
    }
  }

  void Check(const Json& schema, const Json& value, const std::string& path) {
    if (schema.contains("x-kubernetes-int-or-string") && !value.is_string() && !value.is_number_integer()) {
      faults.push_back(path + ": must be a quantity (text or integer), is " + value.type_name());
      return;
    }
    const std::string type = schema.value("type", "");
    if (!TypeFits(type, value)) {
      faults.push_back(path + ": must be of type " + type + ", is " + value.type_name());
      return;
    }
    if (type == "string") CheckText(schema, value.get<std::string>(), path);
    if (type == "integer") {
      const int64_t number = value.get<int64_t>();
      if (number < schema.value("minimum", number) || number > schema.value("maximum", number)) {
        faults.push_back(path + ": must be from " + schema["minimum"].dump() + " to " + schema["maximum"].dump() +
                         ", is " + value.dump());
      }
    }
    if (type == "array") {
      if (value.size() > schema.value("maxItems", value.size())) faults.push_back(path + ": too many items");
      for (size_t i = 0; i < value.size(); ++i) Check(schema["items"], value[i], path + "[" + std::to_string(i) + "]");
      CheckKeys(schema, value, path);
    }
    if (type == "object") CheckObject(schema, value, path);
  }

  std::vector<std::string> faults;

 private:
  static bool TypeFits(const std::string& type, const Json& value) {
    if (type == "string") return value.is_string();
    if (type == "integer") return value.is_number_integer();
    if (type == "boolean") return value.is_boolean();
    if (type == "array") return value.is_array();
    if (type == "object") return value.is_object();
    return true;
  }

  /// Every look at a job asks for the same few: compiling them anew was 4 % of its time.
  static const std::regex& Compiled(const std::string& pattern) {
    thread_local std::map<std::string, std::regex> compiled;
    const auto found = compiled.find(pattern);
    return found == compiled.end() ? compiled.emplace(pattern, std::regex(pattern)).first->second : found->second;
  }

  void CheckText(const Json& schema, const std::string& text, const std::string& path) {
    if (text.size() > schema.value("maxLength", text.size())) faults.push_back(path + ": too long");
    if (text.size() < schema.value("minLength", size_t{0})) faults.push_back(path + ": must not be empty");
    if (schema.contains("enum") &&
        std::find(schema["enum"].begin(), schema["enum"].end(), text) == schema["enum"].end()) {
      faults.push_back(path + ": '" + text + "' is not one of " + schema["enum"].dump());
    }
    if (schema.contains("pattern") && !std::regex_search(text, Compiled(schema["pattern"]))) {
      faults.push_back(path + ": '" + text + "' does not match " + schema["pattern"].get<std::string>());
    }
  }

  void CheckKeys(const Json& schema, const Json& value, const std::string& path) {
    if (!schema.contains("x-kubernetes-list-map-keys")) return;
    const std::string key = schema["x-kubernetes-list-map-keys"][0];
    std::set<std::string> seen;
    for (const Json& item : value) {
      if (item.is_object() && item.contains(key) && !seen.insert(item[key].dump()).second) {
        faults.push_back(path + ": " + key + " " + item[key].dump() + " occurs twice");
      }
    }
  }

  void CheckObject(const Json& schema, const Json& value, const std::string& path) {
    for (const auto& name : schema.value("required", Json::array())) {
      if (!value.contains(name.get<std::string>()))
        faults.push_back(path + "." + name.get<std::string>() + ": is required");
    }
    if (schema.contains("x-kubernetes-preserve-unknown-fields")) return;
    if (schema.contains("additionalProperties")) {
      for (const auto& [key, item] : value.items()) Check(schema["additionalProperties"], item, path + "[" + key + "]");
      return;
    }
    const Json& properties = schema["properties"];
    for (const auto& [name, item] : value.items()) {
      if (properties.contains(name)) {
        Check(properties[name], item, path + "." + name);
      } else {
        faults.push_back(path + "." + name + ": unknown field" + Nearest(name, properties));
      }
    }
  }

  static std::string Nearest(const std::string& name, const Json& properties) {
    std::string best;
    size_t distance = std::max<size_t>(2, name.size() / 2);
    for (const auto& [candidate, schema] : properties.items()) {
      if (const size_t d = config::EditDistance(name, candidate); d <= distance) best = candidate, distance = d;
    }
    return best.empty() ? "" : " (did you mean '" + best + "'?)";
  }
};

void CheckName(const std::string& name, std::vector<std::string>& faults) {
  static const std::regex pattern("^[a-z]([-a-z0-9]*[a-z0-9])?$");
  if (name.size() > 40 || !std::regex_match(name, pattern)) {
    faults.push_back("metadata.name: '" + name + "' must be a lowercase name of at most 40 characters");
  }
}

}  // namespace

Json WithoutDefaults(const Json& schema, const Json& value) {
  if (value.is_array() && schema.contains("items")) {
    Json list = Json::array();
    for (const Json& item : value) list.push_back(WithoutDefaults(schema["items"], item));
    return list;
  }
  if (!value.is_object() || !schema.contains("properties")) return value;
  Json object = Json::object();
  for (const auto& [name, item] : value.items()) {
    const Json field = schema["properties"].value(name, Json::object());
    if (item.is_null()) continue;
    const Json kept = WithoutDefaults(field, item);
    if (field.contains("default") && (kept == field["default"] || (kept.is_object() && kept.empty()))) continue;
    object[name] = kept;
  }
  return object;
}

Json DefaultAndValidate(const kube::Resource& resource, Json object) {
  const Kind* kind = FindKind(resource);
  if (!kind) return object;
  Checker checker;
  const std::string name = object.value("metadata", Json::object()).value("name", "");
  CheckName(name, checker.faults);
  if (!object.contains("spec") || !object["spec"].is_object()) {
    checker.faults.push_back("spec: is required");
  } else {
    checker.Fill(kind->spec, object["spec"]);
    checker.Check(kind->spec, object["spec"], "spec");
    for (const auto& [field, value] : object.items()) {
      if (field != "apiVersion" && field != "kind" && field != "metadata" && field != "spec" && field != "status") {
        checker.faults.push_back(field + ": unknown field");
      }
    }
    // Rules read fields that the schema has accepted.
    if (checker.faults.empty()) {
      for (const Rule& rule : kind->rules) {
        if (!rule.holds(object["spec"]))
          checker.faults.push_back("spec" + (rule.path.empty() ? "" : "." + rule.path) + ": " + rule.message);
      }
    }
  }
  if (checker.faults.empty()) return object;
  std::string message = kind->resource.kind + " \"" + name + "\" is invalid:";
  for (const std::string& fault : checker.faults) message += "\n  " + fault;
  throw kube::ApiError(422, "Invalid", message);
}

}  // namespace anneal::api
