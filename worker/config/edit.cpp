#include "worker/config/edit.h"

#include <google/protobuf/descriptor.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "worker/config/source_map.h"
#include "worker/config/text_format.h"

namespace anneal::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using nlohmann::ordered_json;

/// One dotted part of a path: a name and an optional selector between brackets.
struct Part {
  std::string name;
  std::optional<std::string> selector;
};

[[noreturn]] void Fail(const std::string& path, const std::string& what) {
  throw ConfigError("edit_config_json: '" + path + "': " + what);
}

std::vector<std::string> SplitOutsideBrackets(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  int open = 0;
  for (const char c : text) {
    if (c == '[' || c == '{') ++open;
    if (c == ']' || c == '}') --open;
    if (c == separator && open == 0) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::vector<Part> ParsePath(const std::string& path) {
  std::vector<Part> parts;
  for (const std::string& text : SplitOutsideBrackets(path, '.')) {
    const size_t open = text.find('[');
    if (open == std::string::npos) {
      parts.push_back({text, std::nullopt});
    } else {
      if (text.back() != ']') Fail(path, "'" + text + "' lacks its ']'");
      parts.push_back({text.substr(0, open), text.substr(open + 1, text.size() - open - 2)});
    }
    if (parts.back().name.empty()) Fail(path, "a name is empty");
  }
  return parts;
}

const FieldDescriptor* FindField(const Message& message, const std::string& name, const std::string& path) {
  const auto* type = message.GetDescriptor();
  if (const auto* field = type->FindFieldByName(name)) return field;
  std::vector<std::string> known;
  for (int i = 0; i < type->field_count(); ++i) known.push_back(type->field(i)->name());
  Fail(path, type->name() + " has no field '" + name + "'" + DidYouMean(name, known));
}

std::string ScalarText(const Message& message, const FieldDescriptor* field) {
  const auto* reflection = message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection->GetString(message, field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->GetBool(message, field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection->GetEnum(message, field)->name();
    case FieldDescriptor::CPPTYPE_INT32:
      return std::to_string(reflection->GetInt32(message, field));
    case FieldDescriptor::CPPTYPE_INT64:
      return std::to_string(reflection->GetInt64(message, field));
    case FieldDescriptor::CPPTYPE_UINT32:
      return std::to_string(reflection->GetUInt32(message, field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return std::to_string(reflection->GetUInt64(message, field));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return std::to_string(reflection->GetFloat(message, field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return std::to_string(reflection->GetDouble(message, field));
    default:
      return "";
  }
}

/// "[key=value]" on one element. A key that the element lacks does not match.
bool Matches(const Message& element, const std::string& selector, const std::string& path) {
  std::string op;
  size_t at = std::string::npos;
  for (const char* candidate : {">=", "<=", ">", "<", "="}) {
    at = selector.find(candidate);
    if (at != std::string::npos) {
      op = candidate;
      break;
    }
  }
  if (op.empty()) Fail(path, "selector [" + selector + "] is no index, range or comparison");
  const std::string wanted = selector.substr(at + op.size());
  const Message* message = &element;
  const auto keys = SplitOutsideBrackets(selector.substr(0, at), '.');
  for (size_t i = 0; i + 1 < keys.size(); ++i) {
    const auto* field = message->GetDescriptor()->FindFieldByName(keys[i]);
    if (!field || field->is_repeated() || field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) return false;
    if (!message->GetReflection()->HasField(*message, field)) return false;
    message = &message->GetReflection()->GetMessage(*message, field);
  }
  const auto* field = message->GetDescriptor()->FindFieldByName(keys.back());
  if (!field || field->is_repeated() || field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) return false;
  const std::string value = ScalarText(*message, field);
  if (op == "=") {
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING || field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM)
      return value == wanted;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL)
      return value == wanted || (value == "true" ? "True" : "False") == wanted;
  }
  char* end = nullptr;
  const double right = std::strtod(wanted.c_str(), &end);
  if (wanted.empty() || *end) Fail(path, "'" + wanted + "' in [" + selector + "] is not a number");
  const double left = std::strtod(value.c_str(), nullptr);
  return op == "="    ? left == right
         : op == ">=" ? left >= right
         : op == "<=" ? left <= right
         : op == ">"  ? left > right
                      : left < right;
}

std::vector<int> Select(const Message& message, const FieldDescriptor* field, const Part& part,
                        const std::string& path) {
  const auto* reflection = message.GetReflection();
  const int size = reflection->FieldSize(message, field);
  const std::string& selector = *part.selector;
  std::vector<int> chosen;
  const bool compares = selector.find_first_of("=<>") != std::string::npos;
  if (!compares) {
    auto number = [&](const std::string& text, int fallback) {
      if (text.empty()) return fallback;
      char* end = nullptr;
      const long value = std::strtol(text.c_str(), &end, 10);
      if (*end) Fail(path, "[" + selector + "] is no index, range or comparison");
      return static_cast<int>(value < 0 ? value + size : value);
    };
    const size_t colon = selector.find(':');
    if (colon == std::string::npos) {
      const int index = number(selector, -1);
      if (index < 0 || index >= size)
        Fail(path, part.name + " has " + std::to_string(size) + " elements, there is no [" + selector + "]");
      return {index};
    }
    const int from = std::max(0, number(selector.substr(0, colon), 0)),
              to = std::min(size, number(selector.substr(colon + 1), size));
    for (int i = from; i < to; ++i) chosen.push_back(i);
    return chosen;
  }
  for (int i = 0; i < size; ++i) {
    if (Matches(reflection->GetRepeatedMessage(message, field, i), selector, path)) chosen.push_back(i);
  }
  return chosen;
}

/// The value as the text-format parser reads it for that field.
std::string AsTextFormat(const FieldDescriptor* field, const ordered_json& value, const std::string& path) {
  const bool text_field = field->cpp_type() == FieldDescriptor::CPPTYPE_STRING;
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE || field->is_repeated())
    return value.is_string() ? value.get<std::string>() : value.dump();
  if (text_field) return ordered_json(value.is_string() ? value.get<std::string>() : value.dump()).dump(-1, ' ', false);
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL) {
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    if (text != "true" && text != "True" && text != "false" && text != "False")
      Fail(path, "'" + text + "' is not true or false");
    return text;
  }
  return value.is_string() ? value.get<std::string>() : value.dump();
}

void ParseInto(Message& message, const FieldDescriptor* field, const std::string& text, const std::string& path) {
  SourceMap sources;
  std::vector<Fault> faults;
  ParseTextFormat(text, message, sources, faults);
  if (!faults.empty()) Fail(path, "'" + text.substr(0, 200) + "' for " + field->name() + ": " + faults.front().message);
}

void SetField(Message& message, const FieldDescriptor* field, const ordered_json& value, const std::string& path) {
  std::string text = AsTextFormat(field, value, path);
  const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  const auto* reflection = message.GetReflection();
  if (!field->is_repeated() && is_message) {
    reflection->ClearField(&message, field);
    if (text.empty() || text[0] != '{') text = "{" + text + "}";
  } else if (field->is_repeated()) {
    reflection->ClearField(&message, field);
    if (text.empty() || text[0] != '[') {
      if (is_message && (text.empty() || text[0] != '{')) {
        // Text format of the parent: "name { ... } name { ... }".
        return ParseInto(message, field, text, path);
      }
      text = "[" + text + "]";
    }
  }
  ParseInto(message, field, field->name() + ": " + text, path);
}

void Edit(Message& message, const std::vector<Part>& parts, size_t index, const ordered_json& value,
          const std::string& path) {
  const Part& part = parts[index];
  const FieldDescriptor* field = FindField(message, part.name, path);
  const auto* reflection = message.GetReflection();
  const bool last = index + 1 == parts.size();
  const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  if (part.selector) {
    if (!field->is_repeated()) Fail(path, part.name + " is not a list");
    for (const int i : Select(message, field, part, path)) {
      if (is_message) {
        Message* element = reflection->MutableRepeatedMessage(&message, field, i);
        if (!last) {
          Edit(*element, parts, index + 1, value, path);
          continue;
        }
        element->Clear();
        std::string text = value.is_string() ? value.get<std::string>() : value.dump();
        if (!text.empty() && text.front() == '{' && text.back() == '}') text = text.substr(1, text.size() - 2);
        ParseInto(*element, field, text, path);
        continue;
      }
      if (!last) Fail(path, part.name + " holds no messages");
      // A scalar element: read it through a list of one, then put it in its place.
      Message* scratch = message.New();
      const std::unique_ptr<Message> owner(scratch);
      SetField(*scratch, field, ordered_json::array({value}), path);
      std::string text = scratch->ShortDebugString();
      const int end = reflection->FieldSize(message, field);
      ParseInto(message, field, text, path);
      reflection->SwapElements(&message, field, i, end);
      reflection->RemoveLast(&message, field);
    }
    return;
  }
  if (last) return SetField(message, field, value, path);
  if (!is_message || field->is_repeated())
    Fail(path, part.name + (field->is_repeated() ? " is a list: select elements with [...]" : " has no fields"));
  Edit(*reflection->MutableMessage(&message, field), parts, index + 1, value, path);
}

}  // namespace

void EditConfig(tzrec::protos::EasyRecConfig& config, const std::string& edit_json) {
  const ordered_json edits = ordered_json::parse(edit_json, nullptr, false);
  if (!edits.is_object()) throw ConfigError("edit_config_json is not a JSON object: " + edit_json.substr(0, 200));
  for (const auto& [key, value] : edits.items()) {
    const auto paths = SplitOutsideBrackets(key, ';');
    std::vector<ordered_json> values{value};
    if (paths.size() > 1) {
      values.clear();
      const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
      for (const std::string& part : SplitOutsideBrackets(text, ';')) values.emplace_back(part);
      if (values.size() != paths.size())
        Fail(key, std::to_string(paths.size()) + " paths for " + std::to_string(values.size()) + " values");
    }
    for (size_t i = 0; i < paths.size(); ++i) Edit(config, ParsePath(paths[i]), 0, values[i], paths[i]);
  }
}

}  // namespace anneal::config
