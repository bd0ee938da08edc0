#include "worker/models/hstu_ranker.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "worker/config/error.h"
#include "worker/nn/hstu/xavier.h"

namespace anneal::models {
namespace {

using nn::hstu::RankingInput;
using nn::hstu::RankingWidths;

constexpr const char* kContextual = "contextual";
constexpr const char* kCandidates = "candidate";
constexpr const char* kCandidateTimes = "candidate_timestamp";

/// One token of each contextual feature, or one of all of them.
RankingWidths WidthsOf(const Group& contextual, bool one_token) {
  if (one_token) return {1, contextual.width};
  const std::set<int64_t> widths(contextual.feature_dims.begin(), contextual.feature_dims.end());
  if (widths.size() != 1) {
    throw ConfigError(
        "feature group 'contextual': each feature is a token, so that all have to be as wide; "
        "concat_contextual_features makes one token of all");
  }
  return {static_cast<int64_t>(contextual.feature_dims.size()), *widths.begin()};
}

void RequireOneColumn(const ModelInput& input, const std::string& group) {
  const int64_t width = input.RequireJaggedGroup(group).sequence_width;
  if (width != 1) {
    throw ConfigError("feature group '" + group + "': one number an element is needed, it has " +
                      std::to_string(width));
  }
}

void InitXavier(const nn::Mlp& mlp) {
  for (const auto& [name, parameter] : mlp.NamedParameters()) {
    at::Tensor value = parameter.detach();
    if (name.ends_with(".perceptron.0.weight")) value.copy_(nn::hstu::Xavier(value.size(0), value.size(1)));
    if (name.ends_with(".perceptron.0.bias")) value.zero_();
  }
}

Head TaskHead(const tzrec::protos::FusionSubTaskConfig& task) {
  Head head;
  head.suffix = "_" + task.task_name();
  head.label = task.label_name();
  head.label_bits = task.task_bitmask();
  head.num_class = static_cast<int>(task.num_class());
  head.losses.assign(task.losses().begin(), task.losses().end());
  head.metrics.assign(task.metrics().begin(), task.metrics().end());
  head.train_metrics.assign(task.train_metrics().begin(), task.train_metrics().end());
  head.weighted = task.weight() != 1;
  head.weight = task.weight();
  return head;
}

}  // namespace

template <typename Config>
HstuRanker::HstuRanker(const ModelInput& input, const Config& config, const std::vector<tzrec::protos::HSTU>& channels)
    : ascending_(config.sequence_timestamp_is_ascending()) {
  candidates_ = kCandidates;
  weighs_ranks_ = config.enable_global_average_loss();
  RankingWidths widths = WidthsOf(input.RequireGroup(kContextual), config.concat_contextual_features());
  widths.candidates = input.RequireJaggedGroup(kCandidates).sequence_width;
  int64_t width = 0;
  for (size_t i = 0; i < channels.size(); ++i) {
    const std::string module = "_hstu_transducer" + (channels.size() > 1 ? "._transducers." + std::to_string(i) : "");
    width += AddChannel(input, channels[i], widths, config.max_seq_len(), module);
  }
  item_ = std::make_unique<nn::hstu::SwishMlp>(widths.candidates, config.item_embedding_hidden_dim(), width);
  RegisterModule("_item_embedding_mlp", *item_);
  mlp_ = std::make_unique<nn::Mlp>(width, config.fusion_mtl_tower().mlp());
  InitXavier(*mlp_);
  RegisterModule("_multitask_module.tower_mlp", *mlp_);
  int64_t outputs = 0;
  for (const auto& task : config.fusion_mtl_tower().task_configs()) {
    heads_.push_back(TaskHead(task));
    outputs += heads_.back().num_class;
  }
  linear_ = std::make_unique<nn::Linear>(mlp_->output_dim(), outputs);
  nn::hstu::InitXavier(*linear_);
  RegisterModule("_multitask_module.linear", *linear_);
}

int64_t HstuRanker::AddChannel(const ModelInput& input, const tzrec::protos::HSTU& config, const RankingWidths& widths,
                               int64_t max_seq_len, const std::string& module) {
  Channel channel{config.name().empty() ? "uih" : config.name(), nullptr};
  RankingWidths own = widths;
  own.history = input.RequireJaggedGroup(channel.history).sequence_width;
  channel.transducer = std::make_unique<nn::hstu::Transducer>(config, own, max_seq_len);
  RegisterModule(module, *channel.transducer);
  if (channel.transducer->reads_actions()) RequireOneColumn(input, channel.history + "_action");
  if (channel.transducer->reads_watch_times()) RequireOneColumn(input, channel.history + "_watchtime");
  if (channel.transducer->reads_times()) {
    RequireOneColumn(input, channel.history + "_timestamp");
    RequireOneColumn(input, kCandidateTimes);
  }
  channels_.push_back(std::move(channel));
  return channels_.back().transducer->width();
}

at::Tensor HstuRanker::InOrder(const at::Tensor& x) const { return ascending_ ? x : at::flip(x, {0}); }

RankingInput HstuRanker::InputOf(const Groups& groups, const Channel& channel) const {
  const auto column = [&](const std::string& group) {
    return InOrder(groups.sequence(group).sequence.select(1, 0).to(at::kFloat));
  };
  const nn::Sequence &history = groups.sequence(channel.history), &candidates = groups.sequence(kCandidates);
  RankingInput input;
  input.contextual = InOrder(groups.at(kContextual));
  input.history = InOrder(history.sequence);
  input.history_length = InOrder(history.length);
  input.candidates = InOrder(candidates.sequence);
  input.candidate_length = InOrder(candidates.length);
  if (channel.transducer->reads_actions()) input.actions = column(channel.history + "_action");
  if (channel.transducer->reads_watch_times()) input.watch_times = column(channel.history + "_watchtime");
  if (channel.transducer->reads_times()) {
    input.history_times = column(channel.history + "_timestamp");
    input.candidate_times = column(kCandidateTimes);
  }
  return input;
}

std::vector<at::Tensor> HstuRanker::Forward(const Groups& groups) {
  std::vector<at::Tensor> users;
  for (Channel& channel : channels_) users.push_back(channel.transducer->Forward(InputOf(groups, channel)));
  const at::Tensor user = users.size() == 1 ? users.front() : at::cat(users, 1);
  const at::Tensor item = item_->Forward(InOrder(groups.sequence(kCandidates).sequence));
  const at::Tensor joined = InOrder(linear_->Forward(mlp_->Forward(user * item)));
  std::vector<int64_t> widths;
  for (const Head& head : heads_) widths.push_back(head.num_class);
  return joined.split_with_sizes(widths, 1);
}

DlrmHstu::DlrmHstu(const ModelInput& input)
    : HstuRanker(input, input.config.dlrm_hstu(), {input.config.dlrm_hstu().hstu()}) {}

UltraHstu::UltraHstu(const ModelInput& input)
    : HstuRanker(input, input.config.ultra_hstu(),
                 {input.config.ultra_hstu().hstu().begin(), input.config.ultra_hstu().hstu().end()}) {}

}  // namespace anneal::models
