#include <gmock/gmock.h>

#include <random>

#include "tests/worker/data/data_case.h"
#include "worker/config/error.h"

namespace anneal::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using CsvStream = DataTest;

const char* const kCsv = "dataset_type: CsvDataset num_workers: 1 ";

std::string NumberedText(int64_t first, int64_t count, bool header) {
  std::string text = header ? "id,y\n" : "";
  for (int64_t i = first; i < first + count; ++i) text += std::to_string(i) + "," + std::to_string(i % 2) + "\n";
  return text;
}

TEST_F(CsvStream, HeaderOrNamesFromTheConfig) {
  WriteText("with.csv", NumberedText(0, 10, true));
  WriteText("without.csv", NumberedText(0, 10, false));
  EXPECT_EQ(Joined(ReadIds(*OpenStream(NumberedConfig(std::string(kCsv) + "with_header: true"),
                                       {.input_path = Path("with.csv")}))),
            Numbers(0, 10));
  for (const char* fields : {"input_fields { input_name: 'id' } input_fields { input_name: 'y' }",
                             "input_fields_str: 'id:BIGINT;y:FLOAT'"}) {
    const auto stream = OpenStream(NumberedConfig(std::string(kCsv) + fields), {.input_path = Path("without.csv")});
    const auto batch = stream->Next();
    EXPECT_EQ(std::vector<int64_t>(batch->sparse.values.begin(), batch->sparse.values.end()), Numbers(0, 10));
    EXPECT_TRUE(batch->position.empty());
    EXPECT_EQ(batch->labels[0].ints.empty(), fields[12] == '_') << "inferred labels are integers, stated ones floats";
  }
}

TEST_F(CsvStream, CompressedFiles) {
  const std::string text = NumberedText(0, 1000, true);
  WriteCompressed("a.csv.gz", text, arrow::Compression::GZIP);
  WriteCompressed("b.csv.zst", text, arrow::Compression::ZSTD);
  WriteCompressed("c.csv.bz2", text, arrow::Compression::BZ2);
  WriteCompressed("d.csv.lz4", text, arrow::Compression::LZ4_FRAME);
  for (const char* name : {"a.csv.gz", "b.csv.zst", "c.csv.bz2", "d.csv.lz4"}) {
    const auto stream = OpenStream(NumberedConfig(std::string(kCsv) + "with_header: true"), {.input_path = Path(name)});
    EXPECT_EQ(Joined(ReadIds(*stream)), Numbers(0, 1000)) << name;
  }
}

TEST_F(CsvStream, DelimiterQuotesAndColumnOrder) {
  WriteText("a.csv", "note\tid\ty\n\"x\ty\"\t5\t0.5\nz\t6\t1\n");
  WriteText("b.csv", "y\tid\n0.25\t7\n");
  const auto stream = OpenStream(NumberedConfig(std::string(kCsv) + "with_header: true delimiter: '\\t'"),
                                 {.input_path = Path("*.csv")});
  const auto batch = stream->Next();
  EXPECT_THAT(batch->sparse.values, ElementsAre(5, 6, 7));
  EXPECT_THAT(batch->labels[0].floats, ElementsAre(0.5f, 1, 0.25f));
}

TEST_F(CsvStream, EmptyCellsAreNullButNotOfStrings) {
  const std::string config =
      "data_config { dataset_type: CsvDataset with_header: true num_workers: 1 fg_mode: FG_NORMAL }"
      "feature_configs { raw_feature { feature_name: 'n' expression: 'user:n' default_value: '7' } }"
      "feature_configs { id_feature { feature_name: 's' expression: 'user:s' embedding_dim: 4 vocab_list: ['NULL'] } }";
  WriteText("a.csv", "n,s\n1,NULL\n,\nNA,x\n");
  const auto stream = OpenStream(config, {.input_path = Path("a.csv")});
  const auto batch = stream->Next();
  EXPECT_THAT(batch->dense, ElementsAre(1, 7, 7));
  EXPECT_THAT(batch->sparse.values, ElementsAre(2, 1));
  EXPECT_THAT(features::Lengths(batch->sparse), ElementsAre(1, 0, 1));
}

TEST_F(CsvStream, FilesAreSharedOut) {
  for (int i = 0; i < 5; ++i) WriteText("part-" + std::to_string(i) + ".csv", NumberedText(i * 10, 10, true));
  const std::string config = NumberedConfig("dataset_type: CsvDataset with_header: true num_workers: 8");
  std::vector<int64_t> all;
  for (int rank = 0; rank < 2; ++rank) {
    const auto stream = OpenStream(config, {.input_path = Path("part-*.csv"), .rank = rank, .world_size = 2});
    EXPECT_EQ(stream->workers(), 2) << "5 files for 2 ranks";
    EXPECT_EQ(stream->total_rows(), -1);
    const auto ids = Joined(ReadIds(*stream));
    all.insert(all.end(), ids.begin(), ids.end());
  }
  EXPECT_EQ(Sorted(all), Numbers(0, 50));
  EXPECT_THAT(MessageOf([&] { OpenStream(config, {.input_path = Path("part-0.csv"), .rank = 0, .world_size = 2}); }),
              HasSubstr("1 CSV files for 2 ranks"));
}

TEST_F(CsvStream, ShuffleReordersFiles) {
  for (int i = 0; i < 10; ++i) WriteText("part-" + std::to_string(i) + ".csv", NumberedText(i * 10, 10, true));
  const auto stream = OpenStream(
      NumberedConfig(std::string(kCsv) + "with_header: true shuffle: true shuffle_buffer_size: 1 batch_size: 10"),
      {.input_path = Path("part-*.csv"), .seed = 3});
  const auto first = Joined(ReadIds(*stream));
  stream->Rewind();
  const auto second = Joined(ReadIds(*stream));
  EXPECT_NE(first, Numbers(0, 100));
  EXPECT_NE(first, second);
  EXPECT_EQ(Sorted(first), Numbers(0, 100));
  EXPECT_EQ(Sorted(second), Numbers(0, 100));
}

TEST_F(CsvStream, TypesOfTheFirstFileHoldForAll) {
  WriteText("a.csv", "id,y\n1,0\n");
  WriteText("b.csv", "id,y\nfive,0\n");
  const auto stream =
      OpenStream(NumberedConfig(std::string(kCsv) + "with_header: true batch_size: 1"), {.input_path = Path("*.csv")});
  EXPECT_NE(stream->Next(), nullptr);
  const std::string message = MessageOf([&] { stream->Next(); });
  EXPECT_THAT(message, HasSubstr(Path("b.csv") + " row 2, column id: CSV conversion error to int64"));
  EXPECT_THAT(message, HasSubstr("five"));
}

// A job that writes partitions leaves some with a header alone, also the first.
TEST_F(CsvStream, TypesAreThoseOfTheFirstFileWithARow) {
  WriteText("a.csv", "id,y\n");
  WriteText("b.csv", "id,y\n7,0\n");
  WriteText("c.csv", "id,y\n");
  const auto stream =
      OpenStream(NumberedConfig(std::string(kCsv) + "with_header: true batch_size: 5"), {.input_path = Path("*.csv")});
  EXPECT_EQ(ReadIds(*stream), (std::vector<std::vector<int64_t>>{{7}}));
}

TEST_F(CsvStream, Faults) {
  WriteText("short.csv", "id,y\n1,0\n2\n");
  WriteText("long.csv", "id,y\n1,0\n2,0,0\n");
  WriteText("letters.csv", "id,y\n1,0\n2,0\nx,0\n");
  WriteText("words.csv", "id,y\n1,0\n2,yes\n3,1\n");
  WriteText("misnamed.csv", "ids,y\n1,0\n");
  WriteText("void.csv", "id,y\n,0\n,1\n");
  WriteText("nothing.csv", "");
  WriteText("bytes.csv", "id,y\n1,\xff\xfe\n");
  WriteText("cut.csv.gz", "id,y\n1,0\n");
  const std::string types = "input_fields_str: 'id:BIGINT;y:FLOAT' ";
  const struct {
    const char *file, *fields, *part;
  } kCases[] = {
      {"short.csv", "", "short.csv row 3: CSV parse error: Row #3: Expected 2 columns, got 1"},
      {"long.csv", "", "long.csv row 3: CSV parse error: Row #3: Expected 2 columns, got 3"},
      {"letters.csv", types.c_str(), "letters.csv row 4, column id: CSV conversion error to int64"},
      {"words.csv", "", "words.csv row 3, column y: CSV conversion error to double: invalid value 'yes'"},
      {"misnamed.csv", "", "misnamed.csv: column id is missing; did you mean ids"},
      {"void.csv", "", "void.csv: column [id] with dtype null is not supported now."},
      {"nothing.csv", "", "nothing.csv: Empty CSV file"},
      {"bytes.csv", "input_fields_str: 'id:BIGINT;y:STRING'", "bytes.csv row 2, column y: CSV conversion error"},
      {"cut.csv.gz", "", "cut.csv.gz: "},
  };
  for (const auto& one : kCases) {
    const std::string config = NumberedConfig(std::string(kCsv) + "with_header: true " + one.fields);
    const auto read = [&] { ReadIds(*OpenStream(config, {.input_path = Path(one.file)})); };
    EXPECT_THAT(MessageOf(read), HasSubstr(one.part)) << one.file;
    EXPECT_THROW(read(), DataError) << one.file;
  }
  const struct {
    const char *options, *part;
  } kConfigs[] = {{"", "CSV needs with_header or the column names in input_fields"},
                  {"with_header: true delimiter: '||'", "delimiter \"||\" is not one character"},
                  {"with_header: true input_fields_str: 'id:ARRAY<INT>'", "a CSV column cannot be list<item: int32>"}};
  for (const auto& one : kConfigs) {
    EXPECT_THAT(MessageOf([&] {
                  OpenStream(NumberedConfig(std::string(kCsv) + one.options), {.input_path = Path("short.csv")});
                }),
                HasSubstr(one.part));
  }
}

// Whatever the bytes are: rows or an error that names the file, never a crash or a hang.
TEST_F(CsvStream, SeededFuzz) {
  const std::string config = NumberedConfig(std::string(kCsv) + "with_header: true batch_size: 3");
  const std::string alphabet = "0123456789,,,\n\n\r\"\"x-.eE \t\x1d\xff";
  std::mt19937 random(20240601);
  int good = 0, bad = 0;
  for (int i = 0; i < 300; ++i) {
    std::string text = NumberedText(0, 1 + random() % 20, true);
    for (unsigned edits = random() % 6; edits > 0; --edits) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = alphabet[random() % alphabet.size()];
          break;
        case 1:
          text.insert(at, 1, alphabet[random() % alphabet.size()]);
          break;
        default:
          text.erase(at, 1 + random() % 5);
      }
      if (text.empty()) text = "\n";
    }
    WriteText("fuzz.csv", text);
    try {
      const auto stream = OpenStream(config, {.input_path = Path("fuzz.csv")});
      while (const auto batch = stream->Next()) EXPECT_LE(batch->rows, 3);
      ++good;
    } catch (const DataError& error) {
      ++bad;
      EXPECT_NE(error.code(), ExitCode::kDone);
      EXPECT_FALSE(std::string(error.what()).empty());
    }
  }
  EXPECT_GT(good, 20);
  EXPECT_GT(bad, 20);
}

}  // namespace
}  // namespace anneal::data
