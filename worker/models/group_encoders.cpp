#include "worker/models/group_encoders.h"

#include <ATen/ATen.h>

namespace anneal::models {

GroupEncoders::GroupEncoders(const EmbeddingPlan& plan) : plan_(plan) {
  for (const Group& group : plan.groups) {
    auto& encoders = encoders_.emplace_back();
    for (size_t i = 0; i < group.encoders.size(); ++i) {
      const SequenceGroup& input = plan.sequence_groups[group.encoders[i].input];
      encoders.push_back(nn::MakeSequenceEncoder(group.encoders[i].config, input.query_width, input.sequence_width));
      RegisterModule(group.module + "._group_name_to_seq_encoders." + group.name + "." + std::to_string(i),
                     *encoders.back());
    }
  }
}

at::Tensor GroupEncoders::Encode(size_t index, const at::Tensor& features, const std::vector<nn::Sequence>& sequences) {
  const Group& group = plan_.groups[index];
  if (group.encoders.empty()) return features;
  std::vector<at::Tensor> parts{features};
  for (size_t i = 0; i < group.encoders.size(); ++i) {
    parts.push_back(encoders_[index][i]->Forward(sequences[group.encoders[i].input]));
  }
  return at::cat(parts, 1);
}

}  // namespace anneal::models
