#include "worker/data/synthetic.h"

#include <gmock/gmock.h>

#include "tests/worker/data/data_case.h"
#include "worker/config/error.h"

namespace anneal::data {
namespace {

using SyntheticRatings = DataTest;

const char* const kConfig = R"(
  data_config { dataset_type: ParquetDataset fg_mode: FG_DAG label_fields: "label" num_workers: 1 batch_size: 512 }
  feature_configs { id_feature { feature_name: "user_id" expression: "user:user_id" embedding_dim: 4
                                 hash_bucket_size: 1000 } }
  feature_configs { id_feature { feature_name: "genres" expression: "item:genres" embedding_dim: 4
                                 vocab_list: ["Action", "Adventure", "Animation", "Comedy", "Crime", "Drama", "Fantasy",
                                              "Romance", "Sci-Fi", "Thriller"] } }
  feature_configs { raw_feature { feature_name: "age" expression: "user:age" } })";

TEST_F(SyntheticRatings, AreReadableAndLearnable) {
  const double best = WriteSyntheticRatings(Path("ratings"), 1, 6000);
  EXPECT_GT(best, 0.75);
  EXPECT_LT(best, 0.95);
  const std::map<std::string, int64_t> expected = {{"train", 4800}, {"eval", 600}, {"test", 600}};
  for (const auto& [name, rows] : expected) {
    const auto stream = OpenStream(kConfig, {.input_path = Path("ratings/" + name + ".parquet")});
    EXPECT_EQ(stream->total_rows(), rows);
    double positives = 0;
    int64_t seen = 0;
    while (const auto batch = stream->Next()) {
      seen += batch->rows;
      for (const int64_t label : batch->labels[0].ints) positives += static_cast<double>(label);
      for (size_t i = batch->rows; i < batch->sparse.values.size(); ++i) {
        EXPECT_GE(batch->sparse.values[i], 2) << "every genre is in the vocabulary";
      }
      for (const float age : batch->dense) EXPECT_TRUE(age >= 10 && age < 70);
    }
    EXPECT_EQ(seen, rows);
    EXPECT_GT(positives / static_cast<double>(rows), 0.2) << name;
    EXPECT_LT(positives / static_cast<double>(rows), 0.8) << name;
  }
}

TEST_F(SyntheticRatings, TheSeedDecides) {
  const double first = WriteSyntheticRatings(Path("a"), 5, 500);
  EXPECT_EQ(WriteSyntheticRatings(Path("b"), 5, 500), first);
  EXPECT_NE(WriteSyntheticRatings(Path("c"), 6, 500), first);
  const auto bytes = [&](const std::string& name) {
    std::ifstream file(Path(name), std::ios::binary);
    return std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  };
  EXPECT_EQ(bytes("a/train.parquet"), bytes("b/train.parquet"));
  EXPECT_NE(bytes("a/train.parquet"), bytes("c/train.parquet"));
  EXPECT_THROW(WriteSyntheticRatings(Path("d"), 5, 99), ConfigError);
}

}  // namespace
}  // namespace anneal::data
