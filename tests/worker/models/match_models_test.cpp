// Match models: similarities and gradients on random rows, for match_models.py to compute with torch, row by row; one
// tower alone, traced for any number of rows.
#include <ATen/ATen.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/worker/models/traced.h"
#include "tests/worker/models/written.h"
#include "worker/models/match_towers.h"
#include "worker/models/model.h"

namespace anneal::models {
namespace {

using nlohmann::json;

const std::vector<int64_t> kLengths = {3, 0, 6, 1, 4, 2, 5};
constexpr int64_t kUser = 5, kItem = 6, kMore = 3, kHistory = 4;

struct Case {
  std::string name, model;
  int64_t shared = 0;                             ///< sampled items that the rows share
  std::vector<std::pair<int64_t, int64_t>> hard;  ///< row and number of the hard ones behind them
  bool weighted = false;                          ///< losses of the model's own count rows by a weight
};

std::string Vectors(const std::string& more) {
  return "{ user_tower { input: 'user' mlp { hidden_units: [7, 4] } } item_tower { input: 'item' mlp { hidden_units: "
         "[4] } } " +
         more + " }";
}

std::string Augmented(const std::string& more) {
  return "dat { user_tower { input: 'user' augment_input: 'user_more' mlp { hidden_units: [7, 4] } } item_tower { "
         "input: 'item' augment_input: 'item_more' mlp { hidden_units: [4] } } output_dim: 3 " +
         more + " }";
}

std::string Interests(const std::string& tower, const std::string& capsules, const std::string& more) {
  return "mind { user_tower { input: 'user' history_input: 'history' user_mlp { hidden_units: [7, 5] bias: false } " +
         tower + " concat_mlp { hidden_units: [6, 4] } capsule_config { max_seq_len: 6 high_dim: 3 " + capsules +
         " } } item_tower { input: 'item' mlp { hidden_units: [5, 4] } } " + more + " }";
}

std::vector<Case> Cases() {
  const std::vector<std::pair<int64_t, int64_t>> hard = {{1, 0}, {1, 1}, {1, 2}, {4, 0}, {6, 0}, {6, 1}};
  return {
      {"dssm_in_batch", "dssm " + Vectors("output_dim: 3 in_batch_negative: true similarity: COSINE temperature: 0.1")},
      {"dssm_in_batch_and_sampled", "dssm " + Vectors("output_dim: 3 in_batch_negative: true"), 4},
      {"dssm_sampled", "dssm " + Vectors("output_dim: 0 temperature: 2"), 5},
      {"dssm_hard", "dssm_v2 " + Vectors("output_dim: 2 similarity: COSINE"), 3, hard},
      {"dssm_only_hard", "dssm " + Vectors("output_dim: 2"), 0, hard},
      {"dat", Augmented("in_batch_negative: true amm_u_weight: 0.3 amm_i_weight: 0.7")},
      {"dat_weighted", Augmented("similarity: COSINE temperature: 0.5 amm_u_weight: 2 amm_i_weight: 0.1"), 4, {}, true},
      {"mind", Interests("hist_seq_mlp { hidden_units: [6, 5] }", "max_k: 4", "output_dim: 3 in_batch_negative: true")},
      {"mind_raw_history",
       Interests("", "max_k: 3 const_caps_num: true num_iters: 2 squash_pow: 0.3",
                 "output_dim: 0 simi_pow: 2 similarity: INNER_PRODUCT temperature: 0.5"),
       4, hard},
      {"mind_one_layer",
       Interests("hist_seq_mlp { hidden_units: [6] }", "max_k: 2 routing_init_method: 'zeros' num_iters: 1",
                 "output_dim: 2 in_batch_negative: true temperature: 0.2")},
      {"mind_scaled", Interests("hist_seq_mlp { hidden_units: [5] }",
                                "max_k: 3 num_iters: 4 routing_logits_scale: 3 routing_logits_stddev: 0.5",
                                "output_dim: 2 in_batch_negative: true")},
  };
}

struct Built {
  tzrec::protos::ModelConfig config;
  EmbeddingPlan plan;
  std::unique_ptr<Model> model;
};

Built Build(const Case& c, const std::string& tower = "") {
  Built built;
  EXPECT_TRUE(
      google::protobuf::TextFormat::ParseFromString(c.model + " losses { softmax_cross_entropy {} }", &built.config))
      << c.name;
  for (const auto& [name, width] : {std::pair{"user", kUser}, std::pair{"item", kItem}, std::pair{"user_more", kMore},
                                    std::pair{"item_more", kMore}}) {
    Group& group = built.plan.groups.emplace_back();
    group.name = name;
    group.width = width;
  }
  SequenceGroup& history = built.plan.sequence_groups.emplace_back();
  history.name = "history";
  history.sequence_width = kHistory;
  built.model = MakeModel({built.config, built.plan, {"y"}, {}, tower});
  for (const auto& parameter : built.model->NamedParameters())
    parameter.tensor.detach().add_(at::randn(parameter.tensor.sizes()), 0.2);
  built.model->Train(false);  // MIND draws its first logits anew in training
  return built;
}

Groups RandomGroups(const Case& c) {
  const auto rows = static_cast<int64_t>(kLengths.size()), hard = static_cast<int64_t>(c.hard.size());
  Groups groups;
  groups.plain["user"] = at::randn({rows, kUser});
  groups.plain["item"] = at::randn({rows + c.shared + hard, kItem});
  groups.plain["user_more"] = at::randn({rows, kMore});
  groups.plain["item_more"] = at::randn({rows + c.shared + hard, kMore});
  nn::Sequence& history = groups.sequences["history"];
  history.length = at::tensor(kLengths, at::kLong);
  history.mask = at::arange(6).unsqueeze(0) < history.length.unsqueeze(1);
  history.sequence = at::randn({rows, 6, kHistory}) * history.mask.unsqueeze(2);
  groups.sampled.count = c.shared + hard;
  if (hard > 0) groups.sampled.hard = at::empty({hard, 2}, at::kLong);
  for (int64_t i = 0; i < hard; ++i) {
    groups.sampled.hard[i][0] = c.hard[i].first;
    groups.sampled.hard[i][1] = c.hard[i].second;
  }
  return groups;
}

json Computed(const Case& c) {
  at::manual_seed(11);
  Built built = Build(c);
  Groups groups = RandomGroups(c);
  std::vector<nn::NamedTensor> inputs = {{"history", groups.sequences["history"].sequence}};
  for (const auto& [name, tensor] : groups.plain) inputs.push_back({name, tensor});
  for (const auto& input : inputs) input.tensor.set_requires_grad(true);
  const bool own_losses = !built.model->own_loss_names().empty();
  built.model->Train(own_losses);
  const std::vector<at::Tensor> outputs = built.model->Forward(groups);
  const at::Tensor& output = outputs.front();
  // The places of hard negatives that a row does not have are no numbers to compare.
  const at::Tensor missing = output < -1e25;
  const at::Tensor seed = at::randn(output.sizes()).masked_fill(missing, 0);
  at::Tensor total = (output * seed).sum();
  const at::Tensor weights = at::rand({static_cast<int64_t>(kLengths.size())});
  Targets targets;
  targets.heads.push_back({{}, c.weighted ? weights / weights.mean() : at::Tensor(), {}});
  json own = json::array();
  if (own_losses) {
    for (const at::Tensor& loss : built.model->OwnLosses(outputs, targets)) {
      own.push_back(loss.item<double>());
      total = total + loss;
    }
  }
  total.backward();
  std::string text;
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  EXPECT_TRUE(google::protobuf::util::MessageToJsonString(built.config, &text, options).ok());
  json written{{"name", c.name},
               {"config", json::parse(text)},
               {"lengths", kLengths},
               {"shared", c.shared},
               {"hard", c.hard},
               {"output", Written(output.masked_fill(missing, 0))},
               {"missing", Written(missing.to(at::kFloat))},
               {"seed", Written(seed)},
               {"weights", c.weighted ? Written(weights) : json()},
               {"own_losses", own}};
  for (const auto& [name, input] : inputs) written["inputs"][name] = WrittenWithGradient(input);
  for (const auto& [name, parameter] : built.model->NamedParameters())
    written["parameters"][name] = WrittenWithGradient(parameter);
  return written;
}

TEST(MatchModels, WriteSimilaritiesAndGradientsForTorchToCompare) {
  json written = json::array();
  for (const Case& c : Cases()) written.push_back(Computed(c));
  std::ofstream out("match_models.json");
  ASSERT_TRUE(out << written.dump());
}

/// What an export holds: one tower, with its own parameters alone, whose trace serves any batch.
TEST(MatchModels, OneTowerAloneIsTracedForEveryBatchSize) {
  for (const Case& c : Cases()) {
    for (const std::string tower : {"user_tower", "item_tower"}) {
      SCOPED_TRACE(c.name + " " + tower);
      at::manual_seed(3);
      Built built = Build(c, tower);
      EXPECT_EQ(built.model->heads().front().output, tower + "_emb");
      for (const auto& parameter : built.model->NamedParameters()) {
        EXPECT_TRUE(parameter.name.starts_with(tower)) << parameter.name;
        parameter.tensor.set_requires_grad(false);
      }
      const Groups all = RandomGroups(c);
      const auto stack = [&](int64_t first, int64_t count) {
        const nn::Sequence& history = all.sequences.at("history");
        std::vector<c10::IValue> values;
        for (const at::Tensor& tensor : {all.at("user"), all.at("item"), history.sequence, history.length, history.mask,
                                         all.at("user_more"), all.at("item_more")})
          values.emplace_back(tensor.narrow(0, first, count));
        // As long as the longest row, which differs from batch to batch.
        const int64_t longest = std::max<int64_t>(values[3].toTensor().max().item<int64_t>(), 1);
        for (const size_t at : {2, 4}) values[at] = values[at].toTensor().narrow(1, 0, longest);
        return values;
      };
      const auto forward = [&](std::vector<c10::IValue> values) {
        Groups groups;
        groups.plain["user"] = values[0].toTensor();
        groups.plain["item"] = values[1].toTensor();
        groups.plain["user_more"] = values[5].toTensor();
        groups.plain["item_more"] = values[6].toTensor();
        groups.sequences["history"] = {{}, values[2].toTensor(), values[3].toTensor(), values[4].toTensor()};
        return std::vector<c10::IValue>{built.model->Forward(groups).front()};
      };
      const Traced traced(forward, stack(0, 2));
      for (const auto& [first, count] : {std::pair{0, 7}, std::pair{1, 1}, std::pair{3, 4}}) {
        std::vector<c10::IValue> values = stack(first, count);
        const at::Tensor want = forward(values).front().toTensor();
        EXPECT_TRUE(at::allclose(traced(values), want, 1e-5, 1e-6)) << first;
      }
    }
  }
}

}  // namespace
}  // namespace anneal::models
