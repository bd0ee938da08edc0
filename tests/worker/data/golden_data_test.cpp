// The reference's own configs and data files, against what the reference read from them.
#include <arrow/api.h>
#include <arrow/io/file.h>
#include <gmock/gmock.h>
#include <parquet/arrow/reader.h>

#include "tests/worker/data/data_case.h"
#include "tests/worker/data/safetensors.h"

namespace anneal::data {
namespace {

tzrec::protos::EasyRecConfig ZooConfig(const std::string& name) {
  return features::ParseConfigFile(SharedPath("golden/zoo/" + name + "/pipeline.config"));
}

/// One feature's part of a batch.
struct Part {
  std::vector<int64_t> values, lengths;
  std::vector<float> weights;
};

Part PartOf(const Batch& batch, int feature) {
  Part part;
  const int64_t* offsets = batch.sparse.offsets.data() + feature * batch.rows;
  part.values.assign(batch.sparse.values.begin() + offsets[0], batch.sparse.values.begin() + offsets[batch.rows]);
  for (int64_t row = 0; row < batch.rows; ++row) part.lengths.push_back(offsets[row + 1] - offsets[row]);
  if (!batch.sparse.weights.empty()) {
    part.weights.assign(batch.sparse.weights.begin() + offsets[0], batch.sparse.weights.begin() + offsets[batch.rows]);
  }
  return part;
}

/// The exported models' sample inputs are 32 rows of the evaluation data as the reference parsed them.
TEST(GoldenData, BatchesAreWhatTheReferenceParsed) {
  for (const char* name : {"deepfm", "dcn_v2", "mmoe", "multi_tower_din"}) {
    const auto config = ZooConfig(name);
    const features::FeatureSet set = features::FeatureSet::FromConfig(config);
    const SafeTensors golden(SharedPath(std::string("golden/zoo/") + name + "/export/default/inputs32.safetensors"));
    bool found = false;
    for (const std::string& path : {config.train_input_path(), config.eval_input_path()}) {
      BatchStream stream(config, set,
                         {.input_path = SharedPath("golden/zoo/" + path), .mode = Mode::kEval, .batch_size = 32});
      while (const auto batch = stream.Next()) {
        if (batch->rows != 32 || PartOf(*batch, 0).values != golden.Ints(set.sparse()[0]->name + ".values")) continue;
        found = true;
        for (const features::Feature* feature : set.sparse()) {
          const Part part = PartOf(*batch, feature->index);
          EXPECT_EQ(part.values, golden.Ints(feature->name + ".values")) << name << " " << feature->name;
          EXPECT_EQ(part.lengths, golden.Ints(feature->name + ".lengths")) << name << " " << feature->name;
          ASSERT_EQ(golden.Has(feature->name + ".weights"), set.weighted());
          if (!set.weighted()) continue;
          EXPECT_EQ(part.weights, golden.Floats(feature->name + ".weights")) << name << " " << feature->name;
        }
        for (const features::Feature* feature : set.dense()) {
          std::vector<float> values;
          for (int64_t row = 0; row < batch->rows; ++row) {
            const float* first = batch->dense.data() + row * set.dense_width() + feature->dense_column;
            values.insert(values.end(), first, first + feature->value_dim);
          }
          EXPECT_EQ(values, golden.Floats(feature->name + ".values")) << name << " " << feature->name;
        }
        for (const features::Feature* feature : set.dense_sequences()) {
          const DenseSequence& sequence = batch->dense_sequences[feature->index];
          EXPECT_EQ(sequence.values, golden.Floats(feature->name + ".values")) << name << " " << feature->name;
          std::vector<int64_t> lengths(sequence.offsets.size());
          std::adjacent_difference(sequence.offsets.begin(), sequence.offsets.end(), lengths.begin());
          lengths.erase(lengths.begin());
          EXPECT_EQ(lengths, golden.Ints(feature->name + ".lengths")) << name << " " << feature->name;
        }
        break;
      }
    }
    EXPECT_TRUE(found) << name << ": no batch of the data is the golden one";
  }
}

/// A list column of a file as Arrow's own scalars.
template <typename T>
std::vector<std::vector<T>> ListColumn(const std::string& path, const std::string& name) {
  auto file = arrow::io::ReadableFile::Open(path).ValueOrDie();
  const auto reader = parquet::arrow::OpenFile(file, arrow::default_memory_pool()).ValueOrDie();
  const std::shared_ptr<arrow::Table> table = reader->ReadTable().ValueOrDie();
  std::vector<std::vector<T>> rows;
  const auto column = table->GetColumnByName(name);
  for (int64_t row = 0; row < table->num_rows(); ++row) {
    const auto cell = column->GetScalar(row).ValueOrDie();
    const auto& list = *static_cast<const arrow::ListScalar&>(*cell).value;
    rows.emplace_back();
    for (int64_t i = 0; i < list.length(); ++i) {
      const auto value = list.GetScalar(i).ValueOrDie();
      if constexpr (std::is_same_v<T, float>) {
        rows.back().push_back(static_cast<const arrow::FloatScalar&>(*value).value);
      } else {
        rows.back().push_back(static_cast<const arrow::Int64Scalar&>(*value).value);
      }
    }
  }
  return rows;
}

TEST(GoldenData, SequencesInFileOrder) {
  const auto config = ZooConfig("multi_tower_din");
  const features::FeatureSet set = features::FeatureSet::FromConfig(config);
  const std::string path = SharedPath("golden/zoo/" + config.train_input_path());
  std::vector<std::vector<int64_t>> items, categories;
  std::vector<std::vector<float>> prices;
  BatchStream stream(config, set, {.input_path = path, .mode = Mode::kEval, .batch_size = 300});
  while (auto batch = stream.Next()) {
    const auto append = [&](const std::string& name, std::vector<std::vector<int64_t>>* rows) {
      const int64_t* offsets = batch->sparse.offsets.data() + set.Find(name)->index * batch->rows;
      const int64_t* values = batch->sparse.values.data();
      for (int64_t row = 0; row < batch->rows; ++row) {
        rows->emplace_back(values + offsets[row], values + offsets[row + 1]);
      }
    };
    append("click_seq__item_id", &items);
    append("click_seq__cate", &categories);
    const DenseSequence& sequence = batch->dense_sequences[set.Find("click_seq__price")->index];
    for (int64_t row = 0; row < batch->rows; ++row) {
      prices.emplace_back(sequence.values.begin() + sequence.offsets[row],
                          sequence.values.begin() + sequence.offsets[row + 1]);
    }
    stream.Recycle(std::move(batch));
  }
  EXPECT_EQ(items.size(), 5120u);
  EXPECT_EQ(items, ListColumn<int64_t>(path, "click_seq__item_id"));
  EXPECT_EQ(categories, ListColumn<int64_t>(path, "click_seq__cate"));
  EXPECT_EQ(prices, ListColumn<float>(path, "click_seq__price"));
}

TEST(GoldenData, LabelsInFileOrder) {
  for (const char* name : {"deepfm", "dcn_v2", "mmoe"}) {
    const auto config = ZooConfig(name);
    const features::FeatureSet set = features::FeatureSet::FromConfig(config);
    const SafeTensors golden(SharedPath(std::string("golden/zoo/") + name + "/eval_predictions.safetensors"));
    BatchStream stream(config, set,
                       {.input_path = SharedPath("golden/zoo/" + config.eval_input_path()), .mode = Mode::kEval});
    std::vector<Label> labels(config.data_config().label_fields_size());
    while (const auto batch = stream.Next()) {
      ASSERT_EQ(batch->labels.size(), labels.size());
      for (size_t i = 0; i < labels.size(); ++i) {
        const Label& part = batch->labels[i];
        labels[i].ints.insert(labels[i].ints.end(), part.ints.begin(), part.ints.end());
        labels[i].floats.insert(labels[i].floats.end(), part.floats.begin(), part.floats.end());
      }
    }
    for (size_t i = 0; i < labels.size(); ++i) {
      const std::string label = config.data_config().label_fields(static_cast<int>(i));
      if (!golden.Has("label/" + label)) continue;
      if (labels[i].floats.empty()) {
        EXPECT_EQ(labels[i].ints, golden.Ints("label/" + label)) << name << " " << label;
      } else {
        EXPECT_EQ(labels[i].floats, golden.Floats("label/" + label)) << name << " " << label;
      }
    }
  }
}

TEST(GoldenData, TrainingTablesStayInTheirVocabularies) {
  for (const char* name : {"deepfm", "mmoe"}) {
    const std::string folder = SharedPath("golden/train/");
    const auto config = features::ParseConfigFile(folder + name + (name[0] == 'm' ? "_fused.config" : ".config"));
    const features::FeatureSet set = features::FeatureSet::FromConfig(config);
    BatchStream stream(config, set, {.input_path = folder + config.train_input_path()});
    int64_t rows = 0;
    while (auto batch = stream.Next()) {
      rows += batch->rows;
      ASSERT_EQ(batch->sparse.offsets.size(), set.sparse().size() * batch->rows + 1);
      ASSERT_EQ(batch->dense.size(), static_cast<size_t>(set.dense_width() * batch->rows));
      for (const features::Feature* feature : set.sparse()) {
        for (const int64_t id : PartOf(*batch, feature->index).values) {
          ASSERT_TRUE(id >= 0 && id < feature->num_embeddings) << feature->name << " " << id;
        }
      }
      stream.Recycle(std::move(batch));
    }
    EXPECT_EQ(rows, stream.total_rows());
    EXPECT_GT(rows, 60000 - 1) << "60 steps of 1024";
  }
}

}  // namespace
}  // namespace anneal::data
