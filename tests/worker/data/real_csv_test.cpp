// A real advertising log (shared/data/taobao-ad-300), against a naive reading of the same text.
#include <gmock/gmock.h>

#include <sstream>

#include "tests/worker/data/data_case.h"

namespace anneal::data {
namespace {

const char* const kConfig = R"(
  data_config { dataset_type: CsvDataset with_header: true fg_mode: FG_DAG label_fields: "clk" batch_size: 17
                input_fields { input_name: "new_user_class_level" input_type: INT64 } }
  feature_configs { id_feature { feature_name: "user" expression: "user:userid" embedding_dim: 8
                                 hash_bucket_size: 5000 } }
  feature_configs { id_feature { feature_name: "brand" expression: "item:brand" embedding_dim: 8
                                 hash_bucket_size: 3000 } }
  feature_configs { id_feature { feature_name: "page" expression: "context:pid" embedding_dim: 8
                                 vocab_list: ["430548_1007", "430539_1007"] } }
  feature_configs { id_feature { feature_name: "clicks" expression: "user:click_sequence" embedding_dim: 8
                                 hash_bucket_size: 10000 separator: "^" } }
  feature_configs { raw_feature { feature_name: "price" expression: "item:price" } }
  feature_configs { raw_feature { feature_name: "city" expression: "user:new_user_class_level" default_value: "-1" } })";

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

TEST(RealCsv, EveryCellOfTheLog) {
  const std::string path = SharedPath("data/taobao-ad-300/train_sample.csv");
  std::ifstream file(path);
  ASSERT_TRUE(file.good());
  std::string line;
  std::getline(file, line);
  if (line.back() == '\r') line.pop_back();
  const std::vector<std::string> header = Split(line, ',');
  std::vector<std::map<std::string, std::string>> rows;
  while (std::getline(file, line)) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    const std::vector<std::string> cells = Split(line, ',');
    ASSERT_EQ(cells.size(), header.size());
    for (size_t i = 0; i < cells.size(); ++i) {
      if (i == 0) rows.emplace_back();
      rows.back()[header[i]] = cells[i];
    }
  }
  ASSERT_EQ(rows.size(), 100u);

  // Without a word, an empty list; otherwise the hash of each non-empty word.
  const auto hashed = [](const std::vector<std::string>& words, size_t size) {
    std::vector<int64_t> ids;
    for (const std::string& word : words) {
      if (!word.empty()) ids.push_back(static_cast<int64_t>(std::hash<std::string>()(word) % size));
    }
    return ids;
  };
  const auto stream = OpenStream(kConfig, {.input_path = path});
  size_t first = 0;
  while (const auto batch = stream->Next()) {
    for (int64_t i = 0; i < batch->rows; ++i) {
      auto& row = rows.at(first + i);
      const auto ids = [&](int feature) {
        const int64_t* offsets = batch->sparse.offsets.data() + feature * batch->rows + i;
        return std::vector<int64_t>(batch->sparse.values.begin() + offsets[0],
                                    batch->sparse.values.begin() + offsets[1]);
      };
      EXPECT_EQ(ids(0), hashed({row["userid"]}, 5000));
      EXPECT_EQ(ids(1), hashed({row["brand"]}, 3000));
      EXPECT_EQ(ids(2), std::vector<int64_t>{row["pid"] == "430548_1007" ? 2 : 3});
      EXPECT_EQ(ids(3), hashed(Split(row["click_sequence"], '^'), 10000));
      EXPECT_EQ(batch->dense[i * 2], std::stof(row["price"]));
      const std::string& level = row["new_user_class_level"];
      EXPECT_EQ(batch->dense[i * 2 + 1], level.empty() ? -1.0f : std::stof(level));
      EXPECT_EQ(batch->labels[0].ints[i], std::stoll(row["clk"]));
    }
    first += batch->rows;
  }
  EXPECT_EQ(first, rows.size());
}

}  // namespace
}  // namespace anneal::data
