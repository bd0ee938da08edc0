// Files, columns and types that a config asks for.
#include <gmock/gmock.h>

#include "tests/worker/data/data_case.h"
#include "worker/config/error.h"
#include "worker/data/column_selection.h"
#include "worker/data/file_list.h"
#include "worker/data/input_fields.h"

namespace anneal::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using FileList = DataTest;

TEST_F(FileList, GlobsInOrderFilesSorted) {
  for (const char* name : {"b1.x", "a2.x", "a10.x", "c.y"}) WriteText(name, "");
  std::filesystem::create_directories(Path("folder.x"));
  EXPECT_THAT(ListFiles(Path("c.y") + "," + Path("*.x")),
              ElementsAre(Path("c.y"), Path("a10.x"), Path("a2.x"), Path("b1.x")));
  EXPECT_THAT(MessageOf([&] { ListFiles(Path("c.y") + "," + Path("*.z")); }), HasSubstr("*.z matches no file"));
  EXPECT_THROW(ListFiles(""), ConfigError);
  EXPECT_THAT(MessageOf([] { ListFiles("s3://bucket/x"); }), HasSubstr("only local files"));
}

TEST(SelectColumns, KeepsTheOrderOfTheFile) {
  const auto rows =
      MakeRows({{"a", arrow::int64(), "[1]"}, {"b", arrow::utf8(), "[null]"}, {"c", arrow::int32(), "[1]"}});
  EXPECT_THAT(SelectColumns(*rows->schema(), {{"c", "a", "a"}}, "f"), ElementsAre(0, 2));
  EXPECT_THAT(SelectColumns(*rows->schema(), {{}, true}, "f"), ElementsAre(0, 1, 2));
}

TEST(SelectColumns, TypesOfTheContract) {
  using namespace arrow;
  const std::shared_ptr<DataType> good[] = {int32(),
                                            int64(),
                                            float32(),
                                            float64(),
                                            utf8(),
                                            list(utf8()),
                                            list(list(float64())),
                                            arrow::map(utf8(), float64()),
                                            arrow::map(int32(), utf8())};
  for (const auto& type : good) {
    EXPECT_THAT(SelectColumns(*schema({field("x", type)}), {{"x"}}, "f"), ElementsAre(0)) << type->ToString();
  }
  const std::shared_ptr<DataType> bad[] = {null(),
                                           boolean(),
                                           int8(),
                                           large_utf8(),
                                           timestamp(TimeUnit::SECOND),
                                           dictionary(int32(), utf8()),
                                           arrow::map(float32(), utf8()),
                                           list(list(list(int64()))),
                                           date32()};
  for (const auto& type : bad) {
    EXPECT_THAT(MessageOf([&] { SelectColumns(*schema({field("x", type)}), {{"x"}}, "f.parquet"); }),
                testing::StartsWith("f.parquet: column [x] with dtype " + type->ToString() + " is not supported now."));
  }
}

TEST(SelectColumns, AMissingColumnNamesItsNeighbours) {
  const auto schema = arrow::schema({arrow::field("user_id", arrow::int64()), arrow::field("item_id", arrow::int64()),
                                     arrow::field("label", arrow::int64())});
  EXPECT_EQ(MessageOf([&] { SelectColumns(*schema, {{"usr_id"}}, "f.parquet"); }),
            "f.parquet: column usr_id is missing; did you mean user_id");
  EXPECT_EQ(MessageOf([&] { SelectColumns(*schema, {{"zzz"}}, "f.parquet"); }), "f.parquet: column zzz is missing");
  EXPECT_THROW(SelectColumns(*schema, {{"zzz"}}, "f.parquet"), DataError);
}

TEST(InputFields, TextWinsAndIsRead) {
  const auto config = ParseConfig(
      "data_config { input_fields { input_name: 'x' } input_fields_str: "
      "'a:INT32; b : bigint;c:string;d:Array<Float>;e:ARRAY<ARRAY<INT>>;f:map<string, double>;' }");
  const auto fields = InputFields(config.data_config());
  ASSERT_EQ(fields.size(), 6u);
  const char* expected[] = {
      "int32", "int64", "string", "list<item: float>", "list<item: list<item: int32>>", "map<string, double>"};
  for (size_t i = 0; i < fields.size(); ++i) {
    EXPECT_EQ(fields[i].name, std::string(1, static_cast<char>('a' + i)));
    EXPECT_EQ(fields[i].type->ToString(), expected[i]);
  }
}

TEST(InputFields, EveryTypeOfTheEnum) {
  std::string text = "data_config { input_fields { input_name: 'none' } ";
  for (int i = tzrec::protos::FieldType_MIN; i <= tzrec::protos::FieldType_MAX; ++i) {
    const std::string name = tzrec::protos::FieldType_Name(static_cast<tzrec::protos::FieldType>(i));
    text += "input_fields { input_name: '" + name + "' input_type: " + name + " } ";
  }
  const auto fields = InputFields(ParseConfig(text + "}").data_config());
  EXPECT_EQ(fields[0].type, nullptr);
  for (size_t i = 1; i < fields.size(); ++i) ASSERT_NE(fields[i].type, nullptr) << fields[i].name;
  EXPECT_EQ(fields[1 + tzrec::protos::ARRAY_ARRAY_DOUBLE].type->ToString(), "list<item: list<item: double>>");
  EXPECT_EQ(fields[1 + tzrec::protos::MAP_INT64_FLOAT].type->ToString(), "map<int64, float>");
}

TEST(InputFields, Faults) {
  const struct {
    const char *text, *part;
  } kCases[] = {{"a", "\"a\" is not name:TYPE"},
                {":INT", "has no name"},
                {"a:", "has no type"},
                {"a:BOOL", "\"a:BOOL\" has an unknown type"},
                {"a:ARRAY<>", "has an unknown type"},
                {"a:MAP<FLOAT,INT>", "has an unknown type"},
                {"a:MAP<INT>", "has an unknown type"},
                {"a:INT;a:INT", "column a is listed twice"}};
  for (const auto& one : kCases) {
    const auto config = ParseConfig(std::string("data_config { input_fields_str: '") + one.text + "' }");
    EXPECT_THAT(MessageOf([&] { InputFields(config.data_config()); }), HasSubstr(one.part)) << one.text;
  }
}

}  // namespace
}  // namespace anneal::data
