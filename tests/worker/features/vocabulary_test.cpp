#include "worker/features/vocabulary.h"

#include <gmock/gmock.h>

#include "tests/worker/features/feature_case.h"

namespace anneal::features {
namespace {

using testing::HasSubstr;

tzrec::protos::IdFeature Id(const std::string& fields) {
  return ParseConfig("feature_configs { id_feature { feature_name: \"f\" " + fields + " } }")
      .feature_configs(0)
      .id_feature();
}

std::string WriteFile(const std::string& name, const std::string& text) {
  std::ofstream(name) << text;
  return name;
}

TEST(Vocabulary, ListReservesTwoRows) {
  const auto words = Vocabulary::FromConfig(Id("vocab_list: ['abc', 'efg'] default_value: 'xyz'"));
  EXPECT_EQ(words.rows(), 4);
  EXPECT_EQ(words.Find("abc"), 2);
  EXPECT_EQ(words.Find("efg"), 3);
  EXPECT_EQ(words.Find("hij"), 1);
  EXPECT_EQ(words.Find("xyz"), 0);
}

TEST(Vocabulary, ADefaultInTheListHasItsOwnRow) {
  const auto words = Vocabulary::FromConfig(Id("vocab_list: ['abc', 'efg'] default_value: 'abc'"));
  EXPECT_EQ(words.Find("abc"), 2);
  EXPECT_EQ(words.rows(), 4);
}

TEST(Vocabulary, ListAsItIsWithABucketForUnknownWords) {
  const auto words = Vocabulary::FromConfig(Id("vocab_list: ['a', 'b', 'c'] default_bucketize_value: 1"));
  EXPECT_EQ(words.rows(), 3);
  EXPECT_EQ(words.Find("a"), 0);
  EXPECT_EQ(words.Find("?"), 1);
  EXPECT_THAT(MessageOf([] { Vocabulary::FromConfig(Id("vocab_list: ['a'] default_bucketize_value: 1")); }),
              HasSubstr("feature f: default_bucketize_value 1 is not below the length 1 of vocab_list"));
}

TEST(Vocabulary, Dict) {
  const std::string dict =
      "vocab_dict { key: 'a' value: 2 } vocab_dict { key: 'b' value: 5 } vocab_dict { key: 'd' value: 3 } ";
  const auto words = Vocabulary::FromConfig(Id(dict + "default_value: 'd'"));
  EXPECT_EQ(words.rows(), 6);
  EXPECT_EQ(words.Find("b"), 5);
  EXPECT_EQ(words.Find("d"), 0) << "the default is written over";
  EXPECT_EQ(words.Find("?"), 1);
  const auto plain = Vocabulary::FromConfig(Id(dict + "default_value: 'd' default_bucketize_value: 4"));
  EXPECT_EQ(plain.Find("d"), 3);
  EXPECT_EQ(plain.Find("?"), 4);
}

TEST(Vocabulary, FileOfWords) {
  WriteFile("words.txt", "red\ngreen\n\nred\nblue\n");
  const auto words = Vocabulary::FromConfig(Id("vocab_file: 'words.txt' asset_dir: '.' default_bucketize_value: 0"));
  EXPECT_EQ(words.rows(), 3);
  EXPECT_EQ(words.Find("blue"), 2);
  EXPECT_EQ(words.Find("?"), 0);
}

TEST(Vocabulary, FileOfWordsAndIndexes) {
  WriteFile("indexed.txt", "red 7\ngreen\t3\r\n");
  const auto words = Vocabulary::FromConfig(Id("vocab_file: 'indexed.txt' default_bucketize_value: 1"));
  EXPECT_EQ(words.rows(), 8);
  EXPECT_EQ(words.Find("red"), 7);
  EXPECT_EQ(words.Find("green"), 3);
}

TEST(Vocabulary, FileFaults) {
  WriteFile("mixed.txt", "red 7\ngreen\n");
  WriteFile("letters.txt", "red 7\ngreen x\n");
  WriteFile("empty.txt", "\n");
  const struct {
    const char *fields, *part;
  } kCases[] = {{"vocab_file: 'words.txt'", "vocab_file needs default_bucketize_value"},
                {"vocab_file: 'none.txt' default_bucketize_value: 0", "none.txt cannot be opened"},
                {"vocab_file: 'mixed.txt' default_bucketize_value: 0", "with and lines without an index"},
                {"vocab_file: 'letters.txt' default_bucketize_value: 0", "letters.txt line 2: \"x\" is not an index"},
                {"vocab_file: 'empty.txt' default_bucketize_value: 0", "holds no word"}};
  for (const auto& one : kCases) {
    EXPECT_THAT(MessageOf([&] { Vocabulary::FromConfig(Id(one.fields)); }), HasSubstr(one.part)) << one.fields;
  }
}

}  // namespace
}  // namespace anneal::features
