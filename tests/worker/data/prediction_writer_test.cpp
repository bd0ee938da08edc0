#include "worker/data/prediction_writer.h"

#include <gmock/gmock.h>
#include <parquet/arrow/reader.h>

#include "tests/worker/data/data_case.h"
#include "worker/config/error.h"

namespace anneal::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class PredictionWriterTest : public DataTest {
 protected:
  std::shared_ptr<arrow::Table> ReadBack(const std::string& path) {
    auto file = arrow::io::ReadableFile::Open(path).ValueOrDie();
    parquet::arrow::FileReaderBuilder builder;
    EXPECT_TRUE(builder.Open(file).ok());
    std::unique_ptr<parquet::arrow::FileReader> reader;
    EXPECT_TRUE(builder.Build(&reader).ok());
    return reader->ReadTable().ValueOrDie();
  }

  std::string ReadText(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  const std::vector<float> probs_ = {0.5f, 0.25f};
  const std::vector<int64_t> ids_ = {7, 8};
  const std::vector<float> vectors_ = {1, 2, 3, 4, 5, 6};
  const std::vector<OutputColumn> outputs_ = {{.name = "probs", .floats = probs_.data(), .rows = 2},
                                              {.name = "id", .ints = ids_.data(), .rows = 2},
                                              {.name = "vector", .floats = vectors_.data(), .rows = 2, .cols = 3}};
};

TEST_F(PredictionWriterTest, ParquetRoundTrip) {
  const auto reserved = MakeRows({{"name", arrow::utf8(), R"(["a", null])"}, {"id", arrow::int64(), "[70, 80]"}});
  const auto writer = PredictionWriter::Open(tzrec::protos::ParquetDataset, Path("out"), 3);
  writer->Write(outputs_, reserved);
  writer->Write(outputs_, reserved);
  EXPECT_FALSE(std::filesystem::exists(Path("out/part-3.parquet"))) << "not before Commit";
  EXPECT_EQ(writer->rows(), 4);
  writer->Commit();
  const auto table = ReadBack(Path("out/part-3.parquet"));
  EXPECT_THAT(table->ColumnNames(), ElementsAre("probs", "id", "vector", "name"));
  EXPECT_EQ(table->num_rows(), 4);
  EXPECT_EQ(table->schema()->field(0)->type()->ToString(), "float");
  EXPECT_EQ(table->schema()->field(2)->type()->id(), arrow::Type::LIST);
  EXPECT_EQ(table->schema()->field(2)->type()->field(0)->type()->ToString(), "double");
  const auto rows = table->CombineChunksToBatch().ValueOrDie();
  EXPECT_EQ(rows->column(1)->ToString(), MakeRows({{"", arrow::int64(), "[70, 80, 70, 80]"}})->column(0)->ToString())
      << "the reserved column wins";
  EXPECT_TRUE(rows->column(2)->Equals(
      *MakeRows({{"", arrow::list(arrow::float64()), "[[1,2,3],[4,5,6],[1,2,3],[4,5,6]]"}})->column(0)));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(Path("out")), {}), 1) << "no temporary file is left";
}

TEST_F(PredictionWriterTest, CandidatesAreAListARow) {
  const std::vector<int64_t> lengths = {2, 0, 1};
  const std::vector<float> probs = {0.5f, 0.25f, 0.125f};
  const std::vector<OutputColumn> outputs = {
      {.name = "probs", .floats = probs.data(), .rows = 3, .row_lengths = &lengths},
      {.name = "vector", .floats = vectors_.data(), .rows = 3, .cols = 2, .row_lengths = &lengths}};
  const auto writer = PredictionWriter::Open(tzrec::protos::ParquetDataset, Path("out"), 0);
  writer->Write(outputs, MakeRows({{"id", arrow::int64(), "[7, 8, 9]"}}));
  writer->Commit();
  EXPECT_EQ(writer->rows(), 3);
  const auto rows = ReadBack(Path("out/part-0.parquet"))->CombineChunksToBatch().ValueOrDie();
  const auto list = arrow::list(arrow::float64());
  EXPECT_TRUE(rows->column(0)->Equals(*MakeRows({{"", list, "[[0.5, 0.25], [], [0.125]]"}})->column(0)));
  EXPECT_TRUE(rows->column(1)->Equals(*MakeRows({{"", arrow::list(list), "[[[1,2],[3,4]], [], [[5,6]]]"}})->column(0)));
}

TEST_F(PredictionWriterTest, CsvHasAHeader) {
  const auto writer = PredictionWriter::Open(tzrec::protos::CsvDataset, Path("out"), 0);
  writer->Write({outputs_.data(), 2}, MakeRows({{"name", arrow::utf8(), R"(["a,b", "c"])"}}));
  writer->Commit();
  EXPECT_EQ(ReadText(Path("out/part-0.csv")), "\"probs\",\"id\",\"name\"\n0.5,7,\"a,b\"\n0.25,8,\"c\"\n");
}

TEST_F(PredictionWriterTest, WithoutCommitNothingAppears) {
  for (const auto type : {tzrec::protos::ParquetDataset, tzrec::protos::CsvDataset}) {
    const auto writer = PredictionWriter::Open(type, Path("out"), 0);
    writer->Write({outputs_.data(), 1}, nullptr);
  }
  EXPECT_TRUE(std::filesystem::is_empty(Path("out")));
}

TEST_F(PredictionWriterTest, ARankWithoutRowsLeavesNoFile) {
  const auto writer = PredictionWriter::Open(tzrec::protos::ParquetDataset, Path("out"), 0);
  writer->Write(std::vector<OutputColumn>{{.name = "probs", .floats = probs_.data(), .rows = 0}}, nullptr);
  writer->Commit();
  EXPECT_TRUE(std::filesystem::is_empty(Path("out")));
}

TEST_F(PredictionWriterTest, Faults) {
  const auto csv = PredictionWriter::Open(tzrec::protos::CsvDataset, Path("out"), 0);
  EXPECT_THAT(MessageOf([&] { csv->Write(outputs_, nullptr); }), HasSubstr("output column vector is a list<item: dou"));
  const auto writer = PredictionWriter::Open(tzrec::protos::ParquetDataset, Path("out"), 0);
  EXPECT_THAT(MessageOf([&] {
                writer->Write(outputs_, MakeRows({{"n", arrow::int64(), "[1]"}}));
              }),
              HasSubstr("output column n has 1 rows where probs has 2"));
  writer->Write({outputs_.data(), 1}, nullptr);
  EXPECT_THAT(MessageOf([&] { writer->Write({outputs_.data(), 2}, nullptr); }), HasSubstr("other columns"));
  EXPECT_THROW(PredictionWriter::Open(tzrec::protos::KafkaDataset, Path("out"), 0), ConfigError);
  WriteText("file", "");
  EXPECT_THROW(PredictionWriter::Open(tzrec::protos::CsvDataset, Path("file"), 0), ConfigError);
}

}  // namespace
}  // namespace anneal::data
