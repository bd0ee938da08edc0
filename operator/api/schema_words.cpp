#include "operator/api/schema_words.h"

namespace anneal::api {

using kube::Json;

Json Text(const std::string& description, int max_length) {
  return {{"type", "string"}, {"description", description}, {"maxLength", max_length}};
}
Json Integer(const std::string& description, int64_t least, int64_t most) {
  return {
      {"type", "integer"}, {"format", "int64"}, {"description", description}, {"minimum", least}, {"maximum", most}};
}
Json Flag(const std::string& description, bool fallback) {
  return {{"type", "boolean"}, {"description", description}, {"default", fallback}};
}
Json Choice(const std::string& description, const std::vector<std::string>& values, const std::string& fallback) {
  return {{"type", "string"}, {"description", description}, {"enum", values}, {"default", fallback}};
}
Json With(Json schema, const std::string& key, Json value) {
  schema[key] = std::move(value);
  return schema;
}
Json Default(Json schema, Json value) { return With(std::move(schema), "default", std::move(value)); }
Json Decimal(const std::string& description) {
  return With(Text(description, 32), "pattern", "^-?[0-9]+(\\.[0-9]+)?([eE]-?[0-9]+)?$");
}
Json Object(const std::string& description, Json properties, const std::vector<std::string>& required) {
  Json schema = {{"type", "object"}, {"description", description}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = required;
  return schema;
}
Json Map(const std::string& description, int most) {
  return {{"type", "object"},
          {"description", description},
          {"maxProperties", most},
          {"additionalProperties", {{"type", "string"}, {"maxLength", 4096}}}};
}
Json Quantities(const std::string& description) {
  return {{"type", "object"},
          {"description", description},
          {"maxProperties", 16},
          {"additionalProperties", {{"x-kubernetes-int-or-string", true}}}};
}
Json Opaque(const std::string& description) {
  return {{"type", "object"}, {"description", description}, {"x-kubernetes-preserve-unknown-fields", true}};
}
Json ListOf(const std::string& description, Json items, int most, const std::string& key) {
  Json schema = {{"type", "array"}, {"description", description}, {"maxItems", most}, {"items", std::move(items)}};
  schema["x-kubernetes-list-type"] = key.empty() ? "atomic" : "map";
  if (!key.empty()) schema["x-kubernetes-list-map-keys"] = Json::array({key});
  return schema;
}

}  // namespace anneal::api
