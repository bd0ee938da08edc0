#include "worker/data/sampler/sampled_rows.h"

#include "worker/data/sampler/negative_rows.h"
#include "worker/data/sampler/tree_rows.h"
#include "worker/train/progress/log.h"

namespace anneal::data {

std::function<void(const std::string&)> WarningsOf(int rank) {
  return [rank](const std::string& text) {
    if (rank == 0) LogWarning(text);
  };
}

void AppendSequence(DenseSequence& sequence, const DenseSequence& more) {
  const int64_t elements = sequence.offsets.back();
  sequence.values.insert(sequence.values.end(), more.values.begin(), more.values.end());
  for (size_t row = 1; row < more.offsets.size(); ++row) sequence.offsets.push_back(elements + more.offsets[row]);
}

std::unique_ptr<const SampledRows> SampledRows::Make(const tzrec::protos::EasyRecConfig& config,
                                                     const features::FeatureSet& features, const arrow::Schema& input,
                                                     bool training, const SamplingRequest& request) {
  if (config.data_config().has_tdm_sampler()) return std::make_unique<const TreeRows>(config, features, input, request);
  return std::make_unique<const NegativeRows>(config, features, input, training, request);
}

}  // namespace anneal::data
