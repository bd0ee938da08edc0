#include "worker/config/text_format.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <cmath>
#include <cstdlib>
#include <limits>

namespace anneal::config {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::io::Tokenizer;

constexpr int kMaxDepth = 100;

/// Well-formed UTF-8 (the Unicode Standard 15, table 3-7).
bool IsUtf8(std::string_view text) {
  const auto byte = [&](size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0; };
  const auto continues = [&](size_t at, int least = 0x80, int most = 0xBF) {
    return byte(at) >= least && byte(at) <= most;
  };
  for (size_t i = 0; i < text.size();) {
    const int first = byte(i);
    if (first < 0x80) {
      ++i;
    } else if (first >= 0xC2 && first <= 0xDF && continues(i + 1)) {
      i += 2;
    } else if (first >= 0xE0 && first <= 0xEF &&
               continues(i + 1, first == 0xE0 ? 0xA0 : 0x80, first == 0xED ? 0x9F : 0xBF) && continues(i + 2)) {
      i += 3;
    } else if (first >= 0xF0 && first <= 0xF4 &&
               continues(i + 1, first == 0xF0 ? 0x90 : 0x80, first == 0xF4 ? 0x8F : 0xBF) && continues(i + 2) &&
               continues(i + 3)) {
      i += 4;
    } else {
      return false;
    }
  }
  return true;
}

/// The tokenizer's own complaints (unterminated string, stray character) as faults.
class Collector : public google::protobuf::io::ErrorCollector {
 public:
  explicit Collector(std::vector<Fault>& faults) : faults_(faults) {}
  void AddError(int line, google::protobuf::io::ColumnNumber column, const std::string& message) override {
    faults_.push_back({"", {line + 1, column + 1}, message});
  }

 private:
  std::vector<Fault>& faults_;
};

class Parser {
 public:
  Parser(const std::string& text, SourceMap& sources, std::vector<Fault>& faults)
      : stream_(text.data(), static_cast<int>(text.size())),
        collector_(faults),
        tokenizer_(&stream_, &collector_),
        sources_(sources),
        faults_(faults) {
    tokenizer_.set_allow_f_after_float(true);
    tokenizer_.set_comment_style(Tokenizer::SH_COMMENT_STYLE);
    tokenizer_.set_require_space_after_number(false);
    tokenizer_.Next();
  }

  void ParseAll(Message& message, const std::string& path) {
    while (!AtEnd()) {
      if (Is("}") || Is(">")) {
        Fail(path, "'" + Text() + "' closes nothing");
        Advance();
        continue;
      }
      ParseField(message, path, 0);
    }
  }

 private:
  const std::string& Text() { return tokenizer_.current().text; }
  bool Is(const char* text) { return !AtEnd() && Text() == text; }
  bool AtEnd() { return tokenizer_.current().type == Tokenizer::TYPE_END; }
  bool IsType(Tokenizer::TokenType type) { return tokenizer_.current().type == type; }
  void Advance() { tokenizer_.Next(); }
  Location Here() { return {tokenizer_.current().line + 1, tokenizer_.current().column + 1}; }
  bool Take(const char* text) {
    if (!Is(text)) return false;
    Advance();
    return true;
  }
  void Fail(const std::string& path, const std::string& message) { FailAt(path, Here(), message); }
  void FailAt(const std::string& path, Location at, const std::string& message) {
    // A broken text may fail at every token: a hundred faults are enough to mend.
    if (faults_.size() < 100) faults_.push_back({path, at, message});
  }

  void ParseField(Message& message, const std::string& parent, int depth) {
    const Location at = Here();
    if (!IsType(Tokenizer::TYPE_IDENTIFIER)) {
      Fail(parent, "expected a field name, found '" + Text() + "'");
      Advance();
      return;
    }
    const std::string name = Text();
    Advance();
    const Descriptor* type = message.GetDescriptor();
    const FieldDescriptor* field = type->FindFieldByName(name);
    const std::string plain = parent.empty() ? name : parent + "." + name;
    if (!field) {
      std::vector<std::string> known;
      for (int i = 0; i < type->field_count(); ++i) known.push_back(type->field(i)->name());
      FailAt(plain, at, type->name() + " has no field '" + name + "'" + DidYouMean(name, known));
      SkipValue(depth);
      TakeSeparator();
      return;
    }
    const bool colon = Take(":");
    const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (!colon && !is_message) FailAt(plain, at, "expected ':' after the name");
    if (field->is_repeated() && Is("[")) {
      Advance();
      while (!AtEnd() && !Is("]")) {
        ParseValue(message, field, plain, at, depth);
        if (!Take(",") && !Is("]")) {
          Fail(plain, "expected ',' or ']', found '" + Text() + "'");
          while (!AtEnd() && !Is("]") && !Is("}")) Advance();
          break;
        }
      }
      if (!Take("]")) FailAt(plain, at, "the list is not closed with ']'");
    } else {
      ParseValue(message, field, plain, at, depth);
    }
    TakeSeparator();
  }

  void TakeSeparator() {
    if (!Take(",")) Take(";");
  }

  void ParseValue(Message& message, const FieldDescriptor* field, const std::string& plain, Location at, int depth) {
    const Reflection* reflection = message.GetReflection();
    std::string path = plain;
    if (field->is_repeated()) path += "[" + std::to_string(reflection->FieldSize(message, field)) + "]";
    if (sources_.size() < 1'000'000) sources_[path] = at;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      // A singular message that comes twice is merged; a oneof's other member is dropped.
      Message* child =
          field->is_repeated() ? reflection->AddMessage(&message, field) : reflection->MutableMessage(&message, field);
      ParseMessage(*child, path, at, depth + 1);
    } else {
      ParseScalar(message, field, path);
    }
  }

  void ParseMessage(Message& message, const std::string& path, Location at, int depth) {
    const bool angle = Is("<");
    if (!angle && !Is("{")) {
      Fail(path, "expected '{', found '" + (AtEnd() ? "end of text" : Text()) + "'");
      SkipScalar();
      return;
    }
    if (depth > kMaxDepth) {
      Fail(path, "nested more than " + std::to_string(kMaxDepth) + " deep");
      SkipBlock();
      return;
    }
    Advance();
    const char* close = angle ? ">" : "}";
    while (!AtEnd() && !Is(close)) ParseField(message, path, depth);
    if (!Take(close)) FailAt(path, at, std::string("is not closed with '") + close + "'");
  }

  void ParseScalar(Message& message, const FieldDescriptor* field, const std::string& path) {
    const Reflection* reflection = message.GetReflection();
    auto put = [&](auto set, auto add, auto value) {
      field->is_repeated() ? (reflection->*add)(&message, field, value) : (reflection->*set)(&message, field, value);
    };
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        return put(&Reflection::SetInt32, &Reflection::AddInt32,
                   static_cast<int32_t>(
                       Integer(path, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max())));
      case FieldDescriptor::CPPTYPE_INT64:
        return put(&Reflection::SetInt64, &Reflection::AddInt64,
                   Integer(path, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()));
      case FieldDescriptor::CPPTYPE_UINT32:
        return put(&Reflection::SetUInt32, &Reflection::AddUInt32, static_cast<uint32_t>(Unsigned(path, UINT32_MAX)));
      case FieldDescriptor::CPPTYPE_UINT64:
        return put(&Reflection::SetUInt64, &Reflection::AddUInt64, Unsigned(path, UINT64_MAX));
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return put(&Reflection::SetDouble, &Reflection::AddDouble, Number(path));
      case FieldDescriptor::CPPTYPE_FLOAT:
        return put(&Reflection::SetFloat, &Reflection::AddFloat, static_cast<float>(Number(path)));
      case FieldDescriptor::CPPTYPE_BOOL:
        return put(&Reflection::SetBool, &Reflection::AddBool, Boolean(path));
      case FieldDescriptor::CPPTYPE_STRING: {
        const std::string text = String(path);
        field->is_repeated() ? reflection->AddString(&message, field, text)
                             : reflection->SetString(&message, field, text);
        return;
      }
      case FieldDescriptor::CPPTYPE_ENUM:
        return Enum(message, field, path);
      default:
        Fail(path, "cannot be set in a text");
    }
  }

  void Unexpected(const std::string& path, const std::string& wanted, const std::string& sign = "") {
    Fail(path, "expected " + wanted + ", found " + (AtEnd() ? "end of text" : "'" + sign + Text() + "'"));
    // A brace or separator belongs to what is around the value.
    if (!Is("}") && !Is(">") && !Is("]") && !Is(",") && !Is(";")) SkipValue(0);
  }

  uint64_t Unsigned(const std::string& path, uint64_t most) {
    if (Is("-")) {
      Advance();
      Unexpected(path, "a number of at least 0", "-");
      return 0;
    }
    if (!IsType(Tokenizer::TYPE_INTEGER)) {
      Unexpected(path, "a whole number");
      return 0;
    }
    uint64_t value = 0;
    if (!Tokenizer::ParseInteger(Text(), most, &value)) Fail(path, Text() + " is more than " + std::to_string(most));
    Advance();
    return value;
  }

  int64_t Integer(const std::string& path, int64_t least, int64_t most) {
    const bool negative = Take("-");
    const uint64_t bound =
        negative ? static_cast<uint64_t>(most) + (least < -most ? 1 : 0) : static_cast<uint64_t>(most);
    const uint64_t value = Unsigned(path, bound);
    return negative ? static_cast<int64_t>(~value + 1) : static_cast<int64_t>(value);
  }

  double Number(const std::string& path) {
    const bool negative = Take("-");
    double value = 0;
    if (IsType(Tokenizer::TYPE_INTEGER)) {
      value = std::strtod(Text().c_str(), nullptr);
    } else if (IsType(Tokenizer::TYPE_FLOAT)) {
      value = Tokenizer::ParseFloat(Text());
    } else if (IsType(Tokenizer::TYPE_IDENTIFIER)) {
      std::string word = Text();
      for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      if (word == "inf" || word == "infinity" || word == "inff") {
        value = std::numeric_limits<double>::infinity();
      } else if (word == "nan" || word == "nanf") {
        value = std::numeric_limits<double>::quiet_NaN();
      } else {
        Unexpected(path, "a number");
        return 0;
      }
    } else {
      Unexpected(path, "a number");
      return 0;
    }
    Advance();
    return negative ? -value : value;
  }

  bool Boolean(const std::string& path) {
    const std::string text = Text();
    if (text == "true" || text == "True" || text == "t" || text == "1") return Advance(), true;
    if (text == "false" || text == "False" || text == "f" || text == "0") return Advance(), false;
    Unexpected(path, "true or false");
    return false;
  }

  std::string String(const std::string& path) {
    if (!IsType(Tokenizer::TYPE_STRING)) {
      Unexpected(path, "a text in quotes");
      return "";
    }
    std::string value;
    const Location at = Here();
    for (; IsType(Tokenizer::TYPE_STRING); Advance()) Tokenizer::ParseStringAppend(Text(), &value);
    if (!IsUtf8(value)) FailAt(path, at, "is not UTF-8");
    return value;
  }

  void Enum(Message& message, const FieldDescriptor* field, const std::string& path) {
    const auto* type = field->enum_type();
    const google::protobuf::EnumValueDescriptor* value = nullptr;
    std::vector<std::string> known;
    for (int i = 0; i < type->value_count(); ++i) known.push_back(type->value(i)->name());
    if (IsType(Tokenizer::TYPE_IDENTIFIER)) {
      value = type->FindValueByName(Text());
      if (!value) {
        Fail(path, "'" + Text() + "' is not a value of " + type->name() + DidYouMean(Text(), known));
        return Advance();
      }
    } else if (IsType(Tokenizer::TYPE_INTEGER)) {
      uint64_t number = 0;
      Tokenizer::ParseInteger(Text(), std::numeric_limits<int32_t>::max(), &number);
      value = type->FindValueByNumber(static_cast<int>(number));
      if (!value) {
        Fail(path, Text() + " is not a value of " + type->name());
        return Advance();
      }
    } else {
      return Unexpected(path, "a value of " + type->name());
    }
    Advance();
    const Reflection* reflection = message.GetReflection();
    field->is_repeated() ? reflection->AddEnum(&message, field, value) : reflection->SetEnum(&message, field, value);
  }

  void SkipValue(int depth) {
    Take(":");
    if (Is("{") || Is("<") || Is("[")) return SkipBlock();
    (void)depth;
    SkipScalar();
  }

  void SkipScalar() {
    Take("-");
    if (IsType(Tokenizer::TYPE_STRING)) {
      while (IsType(Tokenizer::TYPE_STRING)) Advance();
    } else if (!AtEnd() && !Is("}") && !Is(">") && !Is("]")) {
      Advance();
    }
  }

  void SkipBlock() {
    int open = 0;
    do {
      if (Is("{") || Is("<") || Is("[")) ++open;
      if (Is("}") || Is(">") || Is("]")) --open;
      Advance();
    } while (open > 0 && !AtEnd());
  }

  google::protobuf::io::ArrayInputStream stream_;
  Collector collector_;
  Tokenizer tokenizer_;
  SourceMap& sources_;
  std::vector<Fault>& faults_;
};

}  // namespace

void ParseTextFormat(const std::string& text, Message& message, SourceMap& sources, std::vector<Fault>& faults,
                     const std::string& prefix) {
  Parser(text, sources, faults).ParseAll(message, prefix);
}

}  // namespace anneal::config
