#include "worker/data/input_fields.h"

#include <arrow/type.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <string_view>

#include "worker/config/error.h"

namespace anneal::data {
namespace {

using Type = std::shared_ptr<arrow::DataType>;

Type ScalarType(std::string_view name) {
  if (name == "INT" || name == "INT32") return arrow::int32();
  if (name == "BIGINT" || name == "INT64") return arrow::int64();
  if (name == "STRING") return arrow::utf8();
  if (name == "FLOAT") return arrow::float32();
  if (name == "DOUBLE") return arrow::float64();
  return nullptr;
}

/// What is inside "ARRAY<...>"; empty when `name` is something else.
std::string_view Inside(std::string_view name, std::string_view outer) {
  if (name.size() < outer.size() + 3 || !name.starts_with(outer) || name[outer.size()] != '<' || !name.ends_with('>')) {
    return {};
  }
  return name.substr(outer.size() + 1, name.size() - outer.size() - 2);
}

/// `name` in capitals without blanks. Null when it is no type.
Type ParseType(std::string_view name) {
  if (const Type scalar = ScalarType(name)) return scalar;
  if (const std::string_view element = Inside(name, "ARRAY"); !element.empty()) {
    if (const Type scalar = ScalarType(element)) return arrow::list(scalar);
    const Type inner = ScalarType(Inside(element, "ARRAY"));
    return inner == nullptr ? nullptr : arrow::list(arrow::list(inner));
  }
  if (const std::string_view pair = Inside(name, "MAP"); !pair.empty()) {
    const size_t comma = pair.find(',');
    if (comma == std::string_view::npos) return nullptr;
    const Type key = ScalarType(pair.substr(0, comma)), item = ScalarType(pair.substr(comma + 1));
    const bool good_key = key != nullptr && (key->id() == arrow::Type::STRING || key->id() == arrow::Type::INT64 ||
                                             key->id() == arrow::Type::INT32);
    return good_key && item != nullptr ? arrow::map(key, item) : nullptr;
  }
  return nullptr;
}

/// "ARRAY_ARRAY_INT32" and "MAP_STRING_FLOAT" of the enum, as input_fields_str writes them.
std::string SpelledOut(const std::string& name) {
  if (name.starts_with("ARRAY_")) return "ARRAY<" + SpelledOut(name.substr(6)) + ">";
  if (name.starts_with("MAP_")) {
    std::string pair = name.substr(4);
    std::replace(pair.begin(), pair.end(), '_', ',');
    return "MAP<" + pair + ">";
  }
  return name;
}

std::string Trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
  return std::string(text);
}

std::string CapitalsWithoutBlanks(std::string_view text) {
  std::string result;
  for (const unsigned char c : text) {
    if (!std::isspace(c)) result += static_cast<char>(std::toupper(c));
  }
  return result;
}

std::vector<InputField> ParseText(const std::string& text) {
  std::vector<InputField> fields;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(';', begin), text.size());
    const std::string part = Trimmed(std::string_view(text).substr(begin, end - begin));
    begin = end + 1;
    if (part.empty()) continue;
    const auto fail = [&](const std::string& what) {
      throw ConfigError("data_config.input_fields_str: \"" + part + "\" " + what);
    };
    const size_t colon = part.find(':');
    if (colon == std::string::npos) fail("is not name:TYPE");
    const std::string name = Trimmed(part.substr(0, colon)), type = CapitalsWithoutBlanks(part.substr(colon + 1));
    if (name.empty()) fail("has no name");
    if (type.empty()) fail("has no type");
    InputField field{name, ParseType(type)};
    if (field.type == nullptr) fail("has an unknown type");
    fields.push_back(std::move(field));
  }
  return fields;
}

}  // namespace

std::vector<InputField> InputFields(const tzrec::protos::DataConfig& config) {
  std::vector<InputField> fields;
  if (!config.input_fields_str().empty()) {
    fields = ParseText(config.input_fields_str());
  } else {
    for (const tzrec::protos::Field& field : config.input_fields()) {
      if (field.input_name().empty()) throw ConfigError("data_config.input_fields: a field has no input_name");
      fields.push_back(
          {field.input_name(), field.has_input_type()
                                   ? ParseType(SpelledOut(tzrec::protos::FieldType_Name(field.input_type())))
                                   : nullptr});
    }
  }
  std::set<std::string> names;
  for (const InputField& field : fields) {
    if (!names.insert(field.name).second) {
      throw ConfigError("data_config.input_fields: column " + field.name + " is listed twice");
    }
  }
  return fields;
}

}  // namespace anneal::data
