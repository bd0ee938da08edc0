// CustomResourceDefinitions out of the kinds.
#include <sstream>

#include "operator/api/schema.h"

namespace anneal::api {
namespace {

using kube::Json;

void AddRules(Json& schema, const Kind& kind) {
  for (const Rule& rule : kind.rules) {
    Json* at = &schema;
    std::istringstream parts(rule.path);
    for (std::string part; std::getline(parts, part, '.');) {
      at = part == "items" ? &(*at)["items"] : &(*at)["properties"][part];
    }
    (*at)["x-kubernetes-validations"].push_back({{"rule", rule.cel}, {"message", rule.message}});
  }
}

/// States defaults of objects in full: the API server judges a default by the rules before it fills what is inside.
void CompleteDefaults(Json& schema) {
  if (schema.contains("items")) CompleteDefaults(schema["items"]);
  if (!schema.contains("properties")) return;
  for (auto& [name, field] : schema["properties"].items()) CompleteDefaults(field);
  if (!schema.contains("default")) return;
  for (const auto& [name, field] : schema["properties"].items()) {
    if (field.contains("default") && !schema["default"].contains(name)) schema["default"][name] = field["default"];
  }
}

bool Plain(const std::string& text) {
  if (text.empty() || text == "true" || text == "false" || text == "null") return false;
  const std::string first = "-?:,[]{}#&*!|>'\"%@`0123456789.~ ";
  if (first.find(text[0]) != std::string::npos || text.back() == ' ' || text.back() == ':') return false;
  return text.find(": ") == std::string::npos && text.find(" #") == std::string::npos &&
         text.find('\n') == std::string::npos;
}

void Emit(const Json& value, int indent, std::string& out) {
  const std::string pad(indent, ' ');
  if (value.is_object() && !value.empty()) {
    for (const auto& [key, item] : value.items()) {
      out += pad + key + ":";
      const bool nested = (item.is_object() || item.is_array()) && !item.empty();
      out += nested ? "\n" : " ";
      Emit(item, nested ? indent + 2 : 0, out);
    }
  } else if (value.is_array() && !value.empty()) {
    for (const Json& item : value) {
      std::string text;
      Emit(item, indent + 2, text);
      const bool nested = (item.is_object() || item.is_array()) && !item.empty();
      out += pad + "- " + (nested ? text.substr(indent + 2) : text.substr(text.find_first_not_of(' ')));
    }
  } else {
    const bool plain = value.is_string() && Plain(value.get<std::string>());
    out += (plain ? value.get<std::string>() : value.dump()) + "\n";
  }
}

}  // namespace

Json CustomResourceDefinition(const Kind& kind) {
  Json spec = kind.spec;
  AddRules(spec, kind);
  CompleteDefaults(spec);
  const Json status = StatusSchema(kind);
  Json columns = Json::array();
  for (const PrinterColumn& column : kind.columns) {
    columns.push_back({{"name", column.name}, {"type", column.type}, {"jsonPath", column.json_path}});
    if (column.priority) columns.back()["priority"] = column.priority;
  }
  Json schema = {
      {"type", "object"},
      {"description", kind.description},
      {"required", {"spec"}},
      {"properties",
       {{"apiVersion", {{"type", "string"}}},
        {"kind", {{"type", "string"}}},
        {"metadata", {{"type", "object"}}},
        {"spec", spec},
        {"status", status}}},
      {"x-kubernetes-validations",
       {{{"rule", "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"},
         {"message", "metadata.name must be a lowercase name of at most 40 characters"}}}}};
  return {{"apiVersion", "apiextensions.k8s.io/v1"},
          {"kind", "CustomResourceDefinition"},
          {"metadata", {{"name", kind.resource.plural + "." + kind.resource.group}}},
          {"spec",
           {{"group", kind.resource.group},
            {"scope", "Namespaced"},
            {"names",
             {{"kind", kind.resource.kind},
              {"listKind", kind.resource.kind + "List"},
              {"plural", kind.resource.plural},
              {"singular", kind.singular},
              {"shortNames", {kind.short_name}},
              {"categories", {"anneal"}}}},
            {"versions",
             {{{"name", kind.resource.version},
               {"served", true},
               {"storage", true},
               {"subresources", {{"status", Json::object()}}},
               {"additionalPrinterColumns", columns},
               {"selectableFields", {{{"jsonPath", ".status.phase"}}}},
               {"schema", {{"openAPIV3Schema", schema}}}}}}}}};
}

std::string CrdYaml(const Kind& kind) {
  std::string text = "# Generated from operator/api/kinds.cpp by `anneal-operator crds`; a test keeps them equal.\n";
  Emit(CustomResourceDefinition(kind), 0, text);
  return text;
}

}  // namespace anneal::api
