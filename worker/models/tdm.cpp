#include "worker/models/tdm.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"
#include "worker/models/match_towers.h"
#include "worker/nn/masked_attention.h"

namespace anneal::models {

Tdm::Tdm(const ModelInput& input) {
  const auto& config = input.config.tdm();
  if (input.tower == kItemEmbedding) {
    sequence_ = input.plan.sequence_groups.front().name;
    Head items;
    items.output = "item_emb";
    heads_ = {items};
    return;
  }
  heads_ = {input.SingleHead()};
  int64_t width = 0;
  for (const auto& group : input.config.feature_groups()) {
    if (group.group_type() != tzrec::protos::SEQUENCE) {
      width += input.RequireGroup(group.group_name()).width;
      others_.push_back(group.group_name());
      continue;
    }
    if (attention_) throw ConfigError("model_config.tdm: there is more than one SEQUENCE group");
    const SequenceGroup& sequence = input.RequireSequenceGroup(group.group_name());
    nn::RequireQuery(sequence.query_width, sequence.sequence_width, "model_config.tdm: group '" + sequence.name + "'");
    const auto& din = config.multiwindow_din();
    attention_ =
        std::make_unique<nn::MultiWindowDin>(sequence.query_width, sequence.sequence_width, din.attn_mlp(),
                                             std::vector<int64_t>(din.windows_len().begin(), din.windows_len().end()));
    RegisterModule("multiwindow_din", *attention_);
    width += sequence.sequence_width * (din.windows_len_size() + 1);
    sequence_ = sequence.name;
  }
  if (!attention_) throw ConfigError("model_config.tdm: needs a SEQUENCE group");
  deep_ = std::make_unique<nn::Mlp>(width, config.final());
  RegisterModule("deep_mlp", *deep_);
  output_ = std::make_unique<nn::Linear>(deep_->output_dim(), heads_.front().num_class);
  RegisterModule("output_mlp", *output_);
}

std::vector<at::Tensor> Tdm::Forward(const Groups& groups) {
  if (!attention_) return {groups.sequence(sequence_).query};
  std::vector<at::Tensor> parts{attention_->Forward(groups.sequence(sequence_))};
  for (const std::string& group : others_) parts.push_back(groups.at(group));
  return {output_->Forward(deep_->Forward(at::cat(parts, 1)))};
}

}  // namespace anneal::models
