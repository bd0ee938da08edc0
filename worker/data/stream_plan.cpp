#include "worker/data/stream_plan.h"

#include <arrow/type.h>

#include <algorithm>

#include "worker/config/error.h"
#include "worker/config/tree_sampler_settings.h"

namespace anneal::data {
namespace {

constexpr const char* kAllColumns = "ALL_COLUMNS";
constexpr const char* kAllEffectiveColumns = "ALL_EFFECTIVE_COLUMNS";

bool StandsForAll(const std::vector<std::string>& reserved) {
  return !reserved.empty() && (reserved[0] == kAllColumns || reserved[0] == kAllEffectiveColumns);
}

void CheckSupported(const tzrec::protos::DataConfig& config, Mode mode) {
  const auto refuse = [](const std::string& option) {
    throw ConfigError("data_config." + option + " is not supported yet");
  };
  if (config.batch_cost_size() > 0) refuse("batch_cost_size");
  if (mode != Mode::kTrain) return;
  if (config.sample_mask_prob() > 0) refuse("sample_mask_prob");
  if (config.negative_sample_mask_prob() > 0) refuse("negative_sample_mask_prob");
}

int64_t BatchSize(const tzrec::protos::DataConfig& config, const StreamOptions& options) {
  int64_t size = config.batch_size();
  if (options.mode != Mode::kTrain && config.has_eval_batch_size()) size = config.eval_batch_size();
  size = options.batch_size.value_or(size);
  constexpr int64_t kMost = int64_t{1} << 24;  // offsets and buffers stay far from their limits
  if (size < 1 || size > kMost) {
    throw ConfigError("batch size " + std::to_string(size) + " is not between 1 and " + std::to_string(kMost));
  }
  return size;
}

int Workers(const tzrec::protos::DataConfig& config, const StreamOptions& options) {
  constexpr int64_t kMost = 1024;
  const int64_t workers =
      options.num_workers.value_or(static_cast<int>(std::min<int64_t>(config.num_workers(), kMost)));
  if (workers < 0 || workers > kMost) {
    throw ConfigError("num_workers " + std::to_string(workers) + " is not between 0 and " + std::to_string(kMost));
  }
  return static_cast<int>(std::max<int64_t>(workers, 1));
}

}  // namespace

StreamPlan PlanStream(const tzrec::protos::DataConfig& config, const features::FeatureSet& features,
                      const StreamOptions& options) {
  CheckSupported(config, options.mode);
  if (options.world_size < 1 || options.rank < 0 || options.rank >= options.world_size) {
    throw ConfigError("rank " + std::to_string(options.rank) + " of " + std::to_string(options.world_size));
  }
  const bool predict = options.mode == Mode::kPredict, train = options.mode == Mode::kTrain;
  StreamPlan plan;
  plan.batch_size = BatchSize(config, options);
  plan.drop_remainder = config.drop_remainder() && !predict;
  plan.shuffle_batches = train && config.shuffle() ? std::max<uint32_t>(config.shuffle_buffer_size(), 1) : 0;

  DatasetOptions& dataset = plan.dataset;
  dataset.input_path = options.input_path;
  dataset.rank = options.rank;
  dataset.world_size = options.world_size;
  dataset.num_workers = Workers(config, options);
  dataset.even_batch_size = predict ? 0 : plan.batch_size;
  constexpr int64_t kSmallestChunk = 1024, kLargestChunk = 65536;
  dataset.chunk_rows = std::clamp(plan.batch_size, kSmallestChunk, kLargestChunk);
  dataset.shuffle_files = train && config.shuffle();
  dataset.seed = options.seed;

  std::vector<std::string>& read = dataset.columns.names;
  read = features.input_columns();
  if (predict) {
    plan.columns.reserved = options.reserved_columns;
    if (!StandsForAll(options.reserved_columns)) {
      read.insert(read.end(), options.reserved_columns.begin(), options.reserved_columns.end());
    } else {
      dataset.columns.all = options.reserved_columns[0] == kAllColumns;
    }
  } else {
    plan.columns.labels.assign(config.label_fields().begin(), config.label_fields().end());
    plan.columns.sample_weights.assign(config.sample_weight_fields().begin(), config.sample_weight_fields().end());
    std::vector<std::string>& numbers = dataset.columns.numbers;
    numbers = plan.columns.labels;
    numbers.insert(numbers.end(), plan.columns.sample_weights.begin(), plan.columns.sample_weights.end());
    read.insert(read.end(), numbers.begin(), numbers.end());
    if (const auto sampler = config::SamplerOf(config)) {
      plan.samples = true;
      read.push_back(sampler->item_id_field);
      if (!sampler->user_id_field.empty()) read.push_back(sampler->user_id_field);
    }
    if (const auto sampler = config::TreeSamplerOf(config)) {
      plan.samples = true;
      read.push_back(sampler->item_id_field);
    }
  }
  if (options.event_times) {
    dataset.columns.optional.push_back(kEventTimeColumn);
    plan.columns.event_time = kEventTimeColumn;
  }
  return plan;
}

std::vector<std::string> ResolveReserved(const std::vector<std::string>& reserved, const arrow::Schema& read) {
  return StandsForAll(reserved) ? read.field_names() : reserved;
}

}  // namespace anneal::data
