// Generative rankers: outputs and gradients on random rows, for rankers.py to compute with torch, row by row and token
// by token; traced for any rows.
#include <ATen/ATen.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "tests/worker/models/traced.h"
#include "tests/worker/models/written.h"
#include "worker/models/model.h"

namespace anneal::models {
namespace {

using nlohmann::json;

using Lengths = std::vector<int64_t>;
const Lengths kHistory = {3, 0, 6, 1, 4, 2, 5}, kOther = {1, 4, 0, 2, 0, 7, 3}, kCandidates = {2, 1, 0, 3, 1, 2, 4};
constexpr int64_t kContextual = 3, kSlot = 4, kUih = 5, kCandidate = 6;

struct Case {
  std::string name, model;
  bool training = true;
};

const char* const kActions =
    "action_encoder { simple_action_encoder { action_embedding_dim: 2 action_weights: [1, 2, 4] } }";
const char* const kWatched =
    "action_encoder { simple_action_encoder { action_embedding_dim: 3 action_weights: [1, 6] "
    "watchtime_to_action_thresholds: [5, 9] watchtime_to_action_weights: [2, 8] } }";
const char* const kSimple = "{ simple_mlp { hidden_dim: 7 } }";
const char* const kMade = "{ parameterized_mlp { hidden_dim: 5 contextual_dropout_ratio: 0 } }";
const char* const kTimes = "num_position_buckets: 9 num_time_buckets: 6 use_time_encoding: true";
const char* const kTimestampNorm =
    "timestamp_layernorm_postprocessor { time_duration_period_units: [60, 600] time_duration_units_per_period: [10, 6] "
    "}";

struct Channel {
  std::string stu, positions = "num_position_buckets: 20", input, output = "layernorm_postprocessor {}", more;
  int layers = 2;
};

std::string Hstu(const Channel& c) {
  return "hstu { stu { embedding_dim: 8 num_heads: 2 hidden_dim: 3 attention_dim: 5 output_dropout_ratio: 0 " + c.stu +
         " } input_dropout_ratio: 0 attn_num_layers: " + std::to_string(c.layers) + " positional_encoder { " +
         c.positions + " } input_preprocessor { " + c.input + " } output_postprocessor { " + c.output + " } " + c.more +
         " } ";
}

std::string Plain(const std::string& encoder, const std::string& mlp, const std::string& actions = "") {
  return "contextual_preprocessor { content_encoder { " + encoder + " {} } content_mlp " + mlp + " " +
         (actions.empty() ? "" : actions + " action_mlp " + mlp) + " }";
}

std::string Interleaved(const std::string& encoder, const std::string& mlp, const std::string& actions,
                        const std::string& more = "") {
  return "contextual_interleave_preprocessor { content_encoder { " + encoder + " {} } content_mlp " + mlp + " " +
         actions + " action_mlp " + mlp + " " + more + " }";
}

std::string Ranker(const std::string& model, const std::string& channels, const std::string& more = "") {
  return model + " { " + channels +
         "fusion_mtl_tower { mlp { hidden_units: [6] } task_configs { task_name: 'a' label_name: 'y' losses { "
         "binary_cross_entropy {} } } task_configs { task_name: 'b' label_name: 'y' num_class: 2 losses { "
         "softmax_cross_entropy {} } } } max_seq_len: 20 item_embedding_hidden_dim: 7 " +
         more + " }";
}

std::vector<Case> Cases() {
  const std::string slice = "slice_content_encoder", pad = "pad_content_encoder";
  const std::string mlps =
      "contextual_preprocessor { content_encoder { mlp_content_encoder { uih_mlp { hidden_units: [7, 4] } target_mlp { "
      "hidden_units: 4 } } } content_mlp " +
      std::string(kSimple) + " }";
  return {
      {"times", Ranker("dlrm_hstu", Hstu({"", kTimes, Plain(slice, kSimple, kActions), kTimestampNorm}))},
      {"window", Ranker("dlrm_hstu", Hstu({"max_attn_len: 2 use_group_norm: true attn_alpha: 0.7 scaling_seqlen: 7",
                                           "num_position_buckets: 5", Plain(pad, kSimple, kWatched)}))},
      {"wide_window", Ranker("dlrm_hstu", Hstu({"max_attn_len: 5 contextual_seq_len: 1", kTimes, Plain(slice, kSimple),
                                                "l2norm_postprocessor {}"}))},
      {"semi_local", Ranker("dlrm_hstu", Hstu({"sla_k1: 2 sla_k2: 5 max_attn_len: 1",
                                               std::string(kTimes) + " time_bucket_fn: 'log' time_bucket_increments: 7",
                                               Plain(slice, kMade, kActions)}))},
      {"semi_local_one", Ranker("dlrm_hstu", Hstu({"sla_k1: 3", "num_position_buckets: 20", Plain(pad, kMade)}))},
      {"truncated", Ranker("dlrm_hstu", Hstu({"", kTimes, Plain(slice, kSimple, kActions), kTimestampNorm,
                                              "attn_truncation_split_layer: 1 attn_truncation_tail_len: 2", 3}))},
      {"interleaved", Ranker("dlrm_hstu", Hstu({"", kTimes, Interleaved(pad, kSimple, kWatched)}))},
      {"interleaved_in_use", Ranker("dlrm_hstu", Hstu({"", kTimes, Interleaved(pad, kSimple, kWatched)})), false},
      {"interleaved_history",
       Ranker("dlrm_hstu",
              Hstu({"max_attn_len: 4", kTimes, Interleaved(slice, kMade, kActions, "enable_interleaving: false"),
                    "layernorm_postprocessor {}", "attn_truncation_split_layer: 1 attn_truncation_tail_len: 3"}))},
      {"one_token_descending", Ranker("dlrm_hstu", Hstu({"", kTimes, mlps, kTimestampNorm}),
                                      "concat_contextual_features: true sequence_timestamp_is_ascending: false")},
      {"channels",
       Ranker("ultra_hstu", Hstu({"", kTimes, Plain(slice, kSimple, kActions), kTimestampNorm, "name: 'uih'"}) +
                                Hstu({"sla_k2: 4", "num_position_buckets: 20", Interleaved(pad, kSimple, kWatched),
                                      "l2norm_postprocessor {}", "name: 'other'", 1}))},
  };
}

struct Built {
  tzrec::protos::ModelConfig config;
  EmbeddingPlan plan;
  std::unique_ptr<Model> model;
};

Built Build(const Case& c) {
  Built built;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(c.model, &built.config)) << c.name;
  Group& group = built.plan.groups.emplace_back();
  group.name = "contextual";
  group.width = kContextual * kSlot;
  group.feature_dims.assign(kContextual, kSlot);
  const auto add = [&](const std::string& name, int64_t width) {
    SequenceGroup& sequence = built.plan.sequence_groups.emplace_back();
    sequence.name = name;
    sequence.sequence_width = width;
    sequence.jagged = true;
  };
  for (const std::string history : {"uih", "other"}) {
    add(history, kUih);
    for (const char* suffix : {"_action", "_watchtime", "_timestamp"}) add(history + suffix, 1);
  }
  add("candidate", kCandidate);
  add("candidate_timestamp", 1);
  built.model = MakeModel({built.config, built.plan, {"y"}, {}, ""});
  for (const auto& parameter : built.model->NamedParameters())
    parameter.tensor.detach().add_(at::randn(parameter.tensor.sizes()), 0.2);
  built.model->Train(c.training);
  return built;
}

at::Tensor Concatenated(const std::vector<at::Tensor>& parts) { return at::cat(parts, 0); }

/// The whole rows; their times ascend in every row, or descend.
Groups RandomGroups(bool ascending) {
  Groups groups;
  groups.plain["contextual"] = at::randn({static_cast<int64_t>(kHistory.size()), kContextual * kSlot});
  const auto add = [&](const std::string& name, const Lengths& lengths, const at::Tensor& sequence) {
    groups.sequences[name] = {{}, sequence, at::tensor(lengths, at::kLong), {}};
  };
  const auto total = [](const Lengths& lengths) { return std::accumulate(lengths.begin(), lengths.end(), int64_t{0}); };
  for (const auto& [name, lengths] :
       {std::pair{std::string("uih"), kHistory}, std::pair{std::string("other"), kOther}}) {
    const int64_t count = total(lengths);
    add(name, lengths, at::randn({count, kUih}));
    add(name + "_action", lengths, at::randint(0, 16, {count, 1}).to(at::kFloat));
    add(name + "_watchtime", lengths, at::randint(0, 14, {count, 1}).to(at::kFloat));
    std::vector<at::Tensor> times{at::empty({0})};
    for (const int64_t length : lengths)
      times.push_back(std::get<0>(at::randint(1000, 5000, {length}).to(at::kFloat).sort(0, !ascending)));
    add(name + "_timestamp", lengths, Concatenated(times).unsqueeze(1));
  }
  add("candidate", kCandidates, at::randn({total(kCandidates), kCandidate}));
  add("candidate_timestamp", kCandidates, at::randint(5000, 9000, {total(kCandidates), 1}).to(at::kFloat));
  return groups;
}

std::vector<std::pair<std::string, int64_t>> SequenceNames(const Groups& groups) {
  std::vector<std::pair<std::string, int64_t>> names;
  for (const auto& [name, sequence] : groups.sequences) names.emplace_back(name, sequence.sequence.size(1));
  return names;
}

bool Ascending(const Case& c) { return c.name.find("descending") == std::string::npos; }

json Computed(const Case& c) {
  at::manual_seed(11);
  Built built = Build(c);
  Groups groups = RandomGroups(Ascending(c));
  std::vector<nn::NamedTensor> inputs = {{"contextual", groups.plain["contextual"]}};
  for (const auto& [name, width] : SequenceNames(groups)) {
    const bool read = !name.starts_with("other") || c.name == "channels";
    if (width > 1 && read) inputs.push_back({name, groups.sequences[name].sequence});
  }
  for (const auto& input : inputs) input.tensor.set_requires_grad(true);
  const std::vector<at::Tensor> outputs = built.model->Forward(groups);
  std::string text;
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  EXPECT_TRUE(google::protobuf::util::MessageToJsonString(built.config, &text, options).ok());
  json written{{"name", c.name},
               {"config", json::parse(text)},
               {"training", c.training},
               {"lengths", {{"uih", kHistory}, {"other", kOther}, {"candidate", kCandidates}}}};
  at::Tensor total = at::zeros({});
  for (const at::Tensor& output : outputs) {
    const at::Tensor seed = at::randn(output.sizes());
    total = total + (output * seed).sum();
    written["outputs"].push_back(Written(output));
    written["seeds"].push_back(Written(seed));
  }
  total.backward();
  for (const auto& [name, width] : SequenceNames(groups)) {
    if (width == 1) written["numbers"][name] = Written(groups.sequences[name].sequence)["values"];
  }
  for (const auto& [name, input] : inputs) written["inputs"][name] = WrittenWithGradient(input);
  for (const auto& [name, parameter] : built.model->NamedParameters())
    written["parameters"][name] = WrittenWithGradient(parameter);
  return written;
}

TEST(Rankers, WriteOutputsAndGradientsForTorchToCompare) {
  json written = json::array();
  for (const Case& c : Cases()) written.push_back(Computed(c));
  std::ofstream out("rankers.json");
  ASSERT_TRUE(out << written.dump());
}

/// Rows [first, first + count) as the arguments of a trace.
torch::jit::Stack StackOf(const Groups& all, int64_t first, int64_t count) {
  torch::jit::Stack stack{all.at("contextual").narrow(0, first, count)};
  for (const auto& [name, sequence] : all.sequences) {
    const at::Tensor ends = sequence.length.cumsum(0);
    const int64_t begin = first == 0 ? 0 : ends[first - 1].item<int64_t>(),
                  end = ends[first + count - 1].item<int64_t>();
    stack.emplace_back(sequence.sequence.narrow(0, begin, end - begin));
    stack.emplace_back(sequence.length.narrow(0, first, count));
  }
  return stack;
}

Groups GroupsOf(const Groups& like, const torch::jit::Stack& stack) {
  Groups groups;
  groups.plain["contextual"] = stack[0].toTensor();
  size_t at = 1;
  for (const auto& [name, sequence] : like.sequences) {
    groups.sequences[name] = {{}, stack[at].toTensor(), stack[at + 1].toTensor(), {}};
    at += 2;
  }
  return groups;
}

/// What an export holds. No history, no candidates and long rows are among the others.
TEST(Rankers, AreTracedForEveryBatch) {
  for (Case c : Cases()) {
    SCOPED_TRACE(c.name);
    at::manual_seed(3);
    c.training = false;
    const Built built = Build(c);
    for (const auto& parameter : built.model->NamedParameters()) parameter.tensor.set_requires_grad(false);
    const Groups all = RandomGroups(Ascending(c));
    const auto forward = [&](torch::jit::Stack stack) {
      const auto outputs = built.model->Forward(GroupsOf(all, stack));
      return torch::jit::Stack{at::cat(outputs, 1)};
    };
    const Traced traced(forward, StackOf(all, 3, 2));
    for (const auto& [first, count] : {std::pair{0, 7}, std::pair{1, 1}, std::pair{2, 1}, std::pair{3, 4}}) {
      torch::jit::Stack stack = StackOf(all, first, count);
      const at::Tensor want = forward(stack).front().toTensor();
      EXPECT_TRUE(at::allclose(traced(stack), want, 1e-5, 1e-5)) << first;
    }
  }
}

/// A batch in which nobody has a history, and one without any candidate.
TEST(Rankers, NothingToReadOrToJudge) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    at::manual_seed(3);
    const Built built = Build(c);
    const Groups all = RandomGroups(Ascending(c));
    for (const bool judged : {true, false}) {
      Groups groups = all;
      for (auto& [name, sequence] : groups.sequences) {
        if (judged == name.starts_with("candidate")) continue;
        sequence.sequence = sequence.sequence.slice(0, 0, 0);
        sequence.length = at::zeros_like(sequence.length);
      }
      at::Tensor context = groups.plain["contextual"].detach().requires_grad_();
      groups.plain["contextual"] = context;
      const at::Tensor output = at::cat(built.model->Forward(groups), 1);
      EXPECT_EQ(output.size(0), judged ? 13 : 0);
      EXPECT_TRUE(output.isfinite().all().item<bool>());
      output.sum().backward();
      EXPECT_TRUE(context.grad().isfinite().all().item<bool>());
    }
  }
}

}  // namespace
}  // namespace anneal::models
