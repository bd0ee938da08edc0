// The API reference of a kind in Markdown, out of the same table as its CRD.
#include "operator/api/schema.h"

namespace anneal::api {
namespace {

using kube::Json;

std::string Cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.replace(at, 1, "\\|");
  return text;
}

std::string TypeOf(const Json& schema) {
  if (schema.contains("x-kubernetes-int-or-string")) return "quantity";
  const std::string type = schema.value("type", "any");
  if (type == "array") return "list of " + TypeOf(schema["items"]);
  if (type == "object" && schema.contains("additionalProperties"))
    return "map of " + TypeOf(schema["additionalProperties"]);
  return type;
}

std::string Limits(const Json& schema) {
  std::string text;
  const auto add = [&text](const std::string& part) { text += (text.empty() ? "" : "; ") + part; };
  if (schema.contains("enum")) {
    std::string values;
    for (const Json& value : schema["enum"]) values += (values.empty() ? "" : ", ") + value.get<std::string>();
    add(values);
  }
  if (schema.contains("minimum")) add(schema["minimum"].dump() + " to " + schema["maximum"].dump());
  if (schema.contains("pattern")) add("`" + schema["pattern"].get<std::string>() + "`");
  if (schema.contains("maxItems")) add("at most " + schema["maxItems"].dump());
  return text;
}

void Rows(const Json& schema, const std::string& path, std::string& out) {
  if (schema.contains("items")) return Rows(schema["items"], path + "[]", out);
  if (!schema.contains("properties")) return;
  const Json required = schema.value("required", Json::array());
  for (const auto& [name, field] : schema["properties"].items()) {
    bool needed = false;
    for (const Json& entry : required) needed = needed || entry == name;
    std::string fallback = needed ? "required" : "";
    if (field.contains("default") && !field["default"].is_object()) {
      fallback =
          "`" + (field["default"].is_string() ? field["default"].get<std::string>() : field["default"].dump()) + "`";
    }
    const std::string here = path + "." + name;
    out += "| `" + here + "` | " + TypeOf(field) + " | " + Cell(fallback) + " | " +
           Cell(field.value("description", "")) + (Limits(field).empty() ? "" : " (" + Cell(Limits(field)) + ")") +
           " |\n";
    Rows(field, here, out);
  }
}

}  // namespace

std::string ApiReference(const Kind& kind) {
  std::string text =
      "<!-- Generated from operator/api by `anneal-operator api-docs`; a test keeps them equal. -->\n# " +
      kind.resource.kind + "\n\n" + kind.description + " `" + kind.resource.api_version() +
      "`, namespaced, short name `" + kind.short_name +
      "`, category `anneal`. The name has at most 40 characters.\n\n## spec\n\n" +
      "| field | type | default | meaning |\n|---|---|---|---|\n";
  Rows(kind.spec, "spec", text);
  text +=
      "\n## Rules between fields\n\nThe API server refuses what breaks one.\n\n| where | rule | CEL |\n|---|---|---|\n";
  for (const Rule& rule : kind.rules) {
    text += "| `spec" + (rule.path.empty() ? "" : "." + rule.path) + "` | " + Cell(rule.message) + " | `" +
            Cell(rule.cel) + "` |\n";
  }
  text += "\n## status\n\n| field | type | default | meaning |\n|---|---|---|---|\n";
  Rows(StatusSchema(kind), "status", text);
  text += "\n## Columns of `kubectl get`\n\n| column | from | |\n|---|---|---|\n";
  for (const PrinterColumn& column : kind.columns) {
    text +=
        "| " + column.name + " | `" + column.json_path + "` | " + (column.priority ? "with `-o wide`" : "") + " |\n";
  }
  return text;
}

}  // namespace anneal::api
