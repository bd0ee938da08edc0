// The text files of samplers: what is read, and what is said of a fault.
#include <arrow/scalar.h>
#include <gmock/gmock.h>

#include <cmath>
#include <random>

#include "tests/worker/data/data_case.h"
#include "worker/config/error.h"
#include "worker/data/sampler/edge_table.h"
#include "worker/data/sampler/node_table.h"
#include "worker/features/string_hash.h"

namespace anneal::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class SamplerTables : public DataTest {
 protected:
  ~SamplerTables() override { unsetenv("USE_HASH_NODE_ID"); }

  std::string Items(const std::string& text) const { return WriteText("items.txt", text); }

  /// What is wrong with an item table of the attributes a (int64) and b (string).
  std::string ItemFault(const std::string& text) const {
    const std::string path = Items(text);
    const auto input = arrow::schema({arrow::field("a", arrow::int64()), arrow::field("b", arrow::utf8())});
    AttributeColumns attributes({"a", "b"}, ":", *input);
    return MessageOf([&] { NodeTable(path, "\t", &attributes); });
  }

  /// The column of one attribute per row, as JSON-like text.
  std::string Attribute(const std::shared_ptr<arrow::DataType>& type, const std::vector<std::string>& texts) const {
    AttributeColumns attributes({"x"}, "\x02", *arrow::schema({arrow::field("x", type)}));
    for (const std::string& text : texts) attributes.Append(text);
    const auto column = attributes.Finish()->column(0);
    EXPECT_TRUE(column->type()->Equals(type));
    EXPECT_TRUE(column->ValidateFull().ok());
    std::string all;
    for (int64_t i = 0; i < column->length(); ++i)
      all += (i ? " " : "") + column->GetScalar(i).ValueOrDie()->ToString();
    return all;
  }
};

constexpr const char* kHeader = "id:int64\tweight:float\tattrs:string\n";

TEST_F(SamplerTables, ItemsWithAttributes) {
  const std::string path =
      Items(std::string(kHeader) + "7\t0.5\t3\x02x:y\x02unread\r\n-9\t0\t\x02\x02\n8\t1e2\t4\x02z\x02");
  const auto input = arrow::schema({arrow::field("b", arrow::utf8()), arrow::field("a", arrow::int64())});
  AttributeColumns attributes({"a", "b", "c"}, "\x02", *input);
  EXPECT_THAT(attributes.unread(), ElementsAre("c"));
  const NodeTable items(path, "\t", &attributes);
  ASSERT_EQ(items.size(), 3);
  EXPECT_THAT(items.weights(), ElementsAre(0.5f, 0, 100));
  EXPECT_EQ(items.Find(7), 0);
  EXPECT_EQ(items.Find(-9), 1);
  EXPECT_EQ(items.Find(8), 2);
  EXPECT_EQ(items.Find(0), -1);
  const RowSlice& rows = items.attributes();
  const auto expected =
      MakeRows({{"a", arrow::int64(), "[3, null, 4]"}, {"b", arrow::utf8(), R"(["x:y", null, "z"])"}});
  EXPECT_TRUE(rows.rows->Equals(*expected)) << rows.rows->ToString();
  EXPECT_EQ(rows.count, 3);
  EXPECT_EQ(Where(rows, 2), path + " row 4");
}

TEST_F(SamplerTables, UsersAndOtherDelimiters) {
  const NodeTable users(WriteText("users.txt", "u:int64,w:double\n3,0\n4,2\n"), ",", nullptr);
  EXPECT_EQ(users.size(), 2);
  EXPECT_EQ(users.Find(4), 1);
  EXPECT_EQ(users.attributes().rows, nullptr);
  const NodeTable words(WriteText("users.txt", "u:int64<>w:float\n3<>1"), "<>", nullptr);
  EXPECT_EQ(words.Find(3), 0);
}

TEST_F(SamplerTables, IdsThatAreTexts) {
  setenv("USE_HASH_NODE_ID", "1", 1);
  const NodeTable users(WriteText("users.txt", "id:string\tweight:float\nann\t1\n12\t1\n"), "\t", nullptr);
  int64_t id = 0;
  ASSERT_TRUE(ReadNodeId("12", true, &id));
  EXPECT_EQ(id, static_cast<int64_t>(features::MurmurHash64A("12")));
  EXPECT_EQ(users.Find(id), 1);
  EXPECT_THAT(ItemFault(kHeader),
              HasSubstr("\"id:int64\" in the header is not <name>:string (as USE_HASH_NODE_ID is 1)"));
  EXPECT_THAT(ItemFault("id:string\tweight:float\tattrs:string\nann\t1\t1:a\nann\t1\t1:a\n"),
              HasSubstr("row 3, column id: \"ann\" is in row 2 too"));
}

TEST_F(SamplerTables, EveryFaultNamesFileRowAndColumn) {
  const std::string good = std::string(kHeader) + "1\t1\t1:a\n";
  EXPECT_EQ(ItemFault(good), "");
  const struct {
    std::string text, expected;
  } kCases[] = {
      {"", ": is empty; a header line is needed"},
      {kHeader, ": has no row behind the header"},
      {"1\t1\t1:a\n", " row 1, column id: \"1\" in the header is not <name>:int64"},
      {"id:string\tweight:float\tattrs:string\n",
       " row 1, column id: \"id:string\" in the header is not <name>:int64 (string with USE_HASH_NODE_ID=1)"},
      {"id:int64\tweight:int64\tattrs:string\n",
       " row 1, column weight: \"weight:int64\" in the header is not <name>:float"},
      {"id:int64\tweight:float\tattrs:int64\n",
       " row 1, column attrs: \"attrs:int64\" in the header is not <name>:string"},
      {"id:int64\tweight:float\n", " row 1: has 2 fields where 3 are needed (id, weight, attrs; delimiter \"\\x09\")"},
      {good + "\n", " row 3: has 1 field where 3"},
      {good + "2\t1\t1:a\tx\n", " row 3: has 4 fields where 3"},
      {good + "2.5\t1\t1:a\n", " row 3, column id: \"2.5\" is not an int64"},
      {good + "\t1\t1:a\n", " row 3, column id: \"\" is not an int64"},
      {good + "9223372036854775808\t1\t1:a\n", " row 3, column id: \"9223372036854775808\" is not an int64"},
      {good + "2\t1\t1:a\n1\t1\t1:a\n", " row 4, column id: \"1\" is in row 2 too"},
      {good + "2\t-1\t1:a\n", " row 3, column weight: \"-1\" is negative"},
      {good + "2\tnan\t1:a\n", " row 3, column weight: \"nan\" is not a finite number"},
      {good + "2\tinf\t1:a\n", " row 3, column weight: \"inf\" is not a finite number"},
      {good + "2\t1e99\t1:a\n", " row 3, column weight: \"1e99\" is not a number"},
      {good + "2\t\t1:a\n", " row 3, column weight: \"\" is not a number"},
      {good + "2\t1\tx:a\n", " row 3, column attrs: a: \"x\" is no int64"},
      {good + "2\t1\t1\n", " row 3, column attrs: holds 1 attributes where attr_fields has 2 (attr_delimiter \":\")"},
      {good + "2\t1\t1:a:b\n", " row 3, column attrs: holds 3 attributes where attr_fields has 2"},
  };
  for (const auto& one : kCases) {
    const std::string fault = ItemFault(one.text);
    EXPECT_EQ(fault.substr(0, Path("items.txt").size() + one.expected.size()), Path("items.txt") + one.expected)
        << fault;
  }
  const NodeTable items(WriteText("few.txt", "id:int64\tweight:float\n1\t1\n"), "\t", nullptr);
  EXPECT_THAT(MessageOf([&] { EdgeTable(WriteText("e.txt", "u:int64\ti:int64\tw:float\n1\tx\t1\n"), "\t", items); }),
              HasSubstr("e.txt row 2, column item id: \"x\" is not an int64"));
  EXPECT_THAT(MessageOf([&] { EdgeTable(WriteText("e.txt", "u:int64\ti:int64\tw:float\n1\t1\t-2\n"), "\t", items); }),
              HasSubstr("e.txt row 2, column weight: \"-2\" is negative"));
  EXPECT_THAT(MessageOf([&] { NodeTable(Path("none.txt"), "\t", nullptr); }),
              HasSubstr("none.txt: cannot be opened: No such"));
  EXPECT_THAT(MessageOf([&] { NodeTable(folder_, "\t", nullptr); }), HasSubstr("cannot be read: Is a directory"));
  EXPECT_THROW(NodeTable(Path("none.txt"), "\t", nullptr), DataError);
}

TEST_F(SamplerTables, AttributesOfEveryType) {
  EXPECT_EQ(Attribute(arrow::int32(), {"-5", "", "2147483647"}), "-5 null 2147483647");
  EXPECT_EQ(Attribute(arrow::int64(), {"9223372036854775807"}), "9223372036854775807");
  EXPECT_EQ(Attribute(arrow::float32(), {"0.5", ""}), "0.5 null");
  EXPECT_EQ(Attribute(arrow::float64(), {"1e300"}), "1e+300");
  EXPECT_EQ(Attribute(arrow::utf8(), {"a\x1d"
                                      "b",
                                      "", "k:v"}),
            "a\x1d"
            "b null k:v");
  EXPECT_EQ(Attribute(arrow::list(arrow::int64()), {"1\x1d"
                                                    "2",
                                                    "", "3"}),
            "list<item: int64>[1, 2] null list<item: int64>[3]");
  EXPECT_EQ(Attribute(arrow::list(arrow::utf8()), {"a\x1d\x1d"
                                                   "b"}),
            "list<item: string>[a, , b]");
  EXPECT_EQ(Attribute(arrow::list(arrow::float32()), {"0.5"}), "list<item: float>[0.5]");
  EXPECT_EQ(Attribute(arrow::map(arrow::utf8(), arrow::float32()), {"a:1\x1d"
                                                                    "b:0.5",
                                                                    ""}),
            "map<string, float>[{key:string = a, value:float = 1}, {key:string = b, value:float = 0.5}] null");
  EXPECT_EQ(Attribute(arrow::map(arrow::int64(), arrow::utf8()), {"3:x"}),
            "map<int64, string>[{key:int64 = 3, value:string = x}]");
}

TEST_F(SamplerTables, AttributesThatTheirTypeCannotHold) {
  const auto what = [&](const std::shared_ptr<arrow::DataType>& type, const std::string& text) -> std::string {
    try {
      Attribute(type, {text});
    } catch (const features::Refusal& refusal) {
      return refusal.what;
    }
    return "";
  };
  EXPECT_EQ(what(arrow::int32(), "2147483648"), "x: \"2147483648\" is no int32");
  EXPECT_EQ(what(arrow::int64(), "1.5"), "x: \"1.5\" is no int64");
  EXPECT_EQ(what(arrow::list(arrow::int64()), "1\x1d"), "x: \"\" is no int64");
  for (const char* pair : {"a", "a:1:2", "a:1\x1d"}) {
    EXPECT_THAT(what(arrow::map(arrow::utf8(), arrow::utf8()), pair), HasSubstr("x: Parse KV error: "));
  }
  EXPECT_EQ(what(arrow::map(arrow::int64(), arrow::float32()), "a:1"), "x: \"a\" is no int64");
  EXPECT_THAT(MessageOf([&] { Attribute(arrow::list(arrow::list(arrow::int64())), {}); }),
              HasSubstr("column x has dtype list<item: list<item: int64>>, which an item's attribute cannot have"));
}

TEST_F(SamplerTables, EdgesKeepTheFilesOrder) {
  const NodeTable items(WriteText("items.txt", "id:int64\tweight:float\n10\t1\n11\t1\n12\t1\n"), "\t", nullptr);
  const std::string path = WriteText("edges.txt",
                                     "src:int64\tdst:int64\tweight:float\n5\t12\t1\n-1\t10\t1\n5\t10\t1\n5\t99\t1\n"
                                     "5\t12\t0\n7\t98\t1\n");
  EdgeTable edges(path, "\t", items);
  EXPECT_THAT(edges.Of(5), ElementsAre(2, 0, 2));
  EXPECT_THAT(edges.Of(-1), ElementsAre(0));
  EXPECT_THAT(edges.Of(7), IsEmpty());
  EXPECT_THAT(edges.Of(6), IsEmpty());
  EXPECT_EQ(edges.unknown(), 2);
  EXPECT_EQ(edges.first_unknown_line(), 5);
  edges.SortTargets();
  EXPECT_THAT(edges.Of(5), ElementsAre(0, 2));
  EXPECT_THAT(edges.Of(-1), ElementsAre(0));
  const EdgeTable none(WriteText("none.txt", "src:int64\tdst:int64\tweight:float\n"), "\t", items);
  EXPECT_THAT(none.Of(5), IsEmpty());
}

// More than the reader takes at a time, and lines longer than that.
TEST_F(SamplerTables, LargeFiles) {
  std::string text = kHeader;
  constexpr int64_t kRows = 200000;
  const std::string longest(3 << 20, 'x');
  for (int64_t i = 0; i < kRows; ++i) {
    text += std::to_string(i * 1024) + "\t1\t" + std::to_string(i) + ":" + (i == 1000 ? longest : "b") + "\n";
  }
  const std::string path = Items(text);
  const auto input = arrow::schema({arrow::field("a", arrow::int64()), arrow::field("b", arrow::utf8())});
  AttributeColumns attributes({"a", "b"}, ":", *input);
  const NodeTable items(path, "\t", &attributes);
  ASSERT_EQ(items.size(), kRows);
  const auto numbers = std::static_pointer_cast<arrow::Int64Array>(items.attributes().rows->column(0));
  for (int64_t i = 0; i < kRows; ++i) {
    ASSERT_EQ(items.Find(i * 1024), i);
    ASSERT_EQ(numbers->Value(i), i);
  }
  EXPECT_EQ(std::static_pointer_cast<arrow::StringArray>(items.attributes().rows->column(1))->GetString(1000), longest);
}

// Whatever the bytes, a table is read or refused with its name.
TEST_F(SamplerTables, DamagedFiles) {
  std::string good = kHeader;
  for (int i = 0; i < 20; ++i)
    good += std::to_string(i) + "\t0." + std::to_string(i) + "\t" + std::to_string(7 * i) + ":b\n";
  ASSERT_EQ(ItemFault(good), "");
  std::mt19937 random(11);
  const std::string bytes("\t\n\r:0-9eninf.x\x00\x1d\xff", 17);
  int refused = 0;
  for (int round = 0; round < 600; ++round) {
    std::string text = good;
    for (int change = 0; change < 1 + round % 4 && !text.empty(); ++change) {
      const size_t at = random() % text.size();
      const char byte = bytes[random() % bytes.size()];
      switch (random() % 4) {
        case 0:
          text[at] = byte;
          break;
        case 1:
          text.insert(at, 1, byte);
          break;
        case 2:
          text.erase(at, 1 + random() % 3);
          break;
        default:
          text.resize(std::max<size_t>(at, 1));
      }
    }
    const std::string fault = ItemFault(text);
    refused += !fault.empty();
    ASSERT_TRUE(fault.empty() || fault.starts_with(Path("items.txt"))) << fault;
  }
  EXPECT_GT(refused, 100);
  EXPECT_LT(refused, 590);
}

}  // namespace
}  // namespace anneal::data
