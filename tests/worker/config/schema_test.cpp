// The compiled schema holds every message, field and enum value of TorchEasyRec 1.3.16 with its number, label, type,
// oneof and default. schema.json: message -> [number, name, label, type, oneof, default].
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tzrec/pipeline.pb.h"

namespace anneal::config {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using nlohmann::json;

json Schema() {
  return json::parse(std::ifstream(std::string(ANNEAL_SOURCE_DIR) + "/tests/worker/config/schema.json"));
}

std::string TypeName(const FieldDescriptor* field) {
  if (field->type() == FieldDescriptor::TYPE_MESSAGE) return field->message_type()->full_name();
  if (field->type() == FieldDescriptor::TYPE_ENUM) return field->enum_type()->full_name();
  return field->type_name();
}

json DefaultOf(const FieldDescriptor* field) {
  if (!field->has_default_value()) return nullptr;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return field->default_value_string();
    case FieldDescriptor::CPPTYPE_BOOL:
      return field->default_value_bool();
    case FieldDescriptor::CPPTYPE_ENUM:
      return field->default_value_enum()->name();
    case FieldDescriptor::CPPTYPE_FLOAT:
      return field->default_value_float();
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return field->default_value_double();
    case FieldDescriptor::CPPTYPE_UINT32:
      return field->default_value_uint32();
    case FieldDescriptor::CPPTYPE_UINT64:
      return field->default_value_uint64();
    case FieldDescriptor::CPPTYPE_INT32:
      return field->default_value_int32();
    default:
      return field->default_value_int64();
  }
}

TEST(Schema, EveryFieldIsThere) {
  tzrec::protos::EasyRecConfig::descriptor();  // links the files
  const json schema = Schema();
  int fields = 0;
  for (const auto& [name, expected] : schema["messages"].items()) {
    const Descriptor* message = DescriptorPool::generated_pool()->FindMessageTypeByName(name);
    ASSERT_TRUE(message) << name;
    EXPECT_EQ(message->field_count(), static_cast<int>(expected.size())) << name;
    for (const json& want : expected) {
      const std::string where = name + "." + want[1].get<std::string>();
      const FieldDescriptor* field = message->FindFieldByName(want[1]);
      ASSERT_TRUE(field) << where;
      ++fields;
      EXPECT_EQ(field->number(), want[0]) << where;
      const std::string label = field->is_required() ? "required" : field->is_repeated() ? "repeated" : "optional";
      EXPECT_EQ(label, want[2]) << where;
      EXPECT_EQ(TypeName(field), want[3]) << where;
      EXPECT_EQ(field->containing_oneof() ? field->containing_oneof()->name() : "", want[4]) << where;
      const json got = DefaultOf(field);
      if (want[5].is_number() && got.is_number()) {
        EXPECT_EQ(static_cast<float>(got.get<double>()), static_cast<float>(want[5].get<double>())) << where;
      } else {
        EXPECT_EQ(got, want[5]) << where;
      }
    }
  }
  EXPECT_GE(fields, 1149);
}

TEST(Schema, EveryEnumValueIsThere) {
  const json schema = Schema();
  for (const auto& [name, values] : schema["enums"].items()) {
    const auto* type = DescriptorPool::generated_pool()->FindEnumTypeByName(name);
    ASSERT_TRUE(type) << name;
    EXPECT_EQ(type->value_count(), static_cast<int>(values.size())) << name;
    for (const auto& [value, number] : values.items()) {
      ASSERT_TRUE(type->FindValueByName(value)) << name << "." << value;
      EXPECT_EQ(type->FindValueByName(value)->number(), number) << name << "." << value;
    }
  }
}

}  // namespace
}  // namespace anneal::config
