#include "worker/data/sampler/sampled_rows.h"

#include "worker/data/sampler/negative_rows.h"
#include "worker/data/sampler/tree_rows.h"

namespace anneal::data {

std::unique_ptr<const SampledRows> SampledRows::Make(const tzrec::protos::EasyRecConfig& config,
                                                     const features::FeatureSet& features, const arrow::Schema& input,
                                                     bool training, const SamplingRequest& request) {
  if (config.data_config().has_tdm_sampler()) return std::make_unique<const TreeRows>(config, features, input, request);
  return std::make_unique<const NegativeRows>(config, features, input, training, request);
}

}  // namespace anneal::data
