// Rank models without golden runs, and those whose layers have kernels of our own: outputs and gradients on random
// rows, for rank_models.py to compute with torch; and what an export traces.
#include <ATen/ATen.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/worker/models/traced.h"
#include "tests/worker/models/written.h"
#include "worker/config/error.h"
#include "worker/models/model.h"
#include "worker/nn/arithmetic.h"

namespace anneal::models {
namespace {

using nlohmann::json;

constexpr int64_t kRows = 70;

struct Case {
  std::string name, model;
  std::vector<std::pair<std::string, std::vector<int64_t>>> groups;  ///< and the widths of their features
  std::string losses = "losses { binary_cross_entropy {} }";
};

const std::vector<std::pair<std::string, std::vector<int64_t>>> kFields = {{"dense", {3}}, {"sparse", {4, 4, 4}}};
const char* const kTowers =
    "task_towers { tower_name: 'a' label_name: 'y' losses { binary_cross_entropy {} } mlp { hidden_units: [5] } }"
    "task_towers { tower_name: 'b' label_name: 'z' losses { binary_cross_entropy {} } }";

const char* const kSidLosses = "losses { recon_loss {} } losses { commitment_loss {} }";

std::vector<Case> Cases() {
  const std::string towers = kTowers;
  return {
      {"wide_and_deep", "wide_and_deep { deep { hidden_units: [6, 5] } }", {{"wide", {4, 4}}, {"deep", {4, 3}}}},
      {"dcn_v1",
       "dcn_v1 { cross { cross_num: 3 } deep { hidden_units: [6] } final { hidden_units: [5] } } num_class: 2",
       {{"all", {4, 5}}}},
      {"dcn_v2",
       "dcn_v2 { cross { cross_num: 2 low_rank: 3 } deep { hidden_units: [6] } final { hidden_units: [5] } }",
       {{"all", {4, 5}}}},
      {"dcn_v2_backbone_only",
       "dcn_v2 { backbone { hidden_units: [7] } cross { low_rank: 3 } final { hidden_units: [5] } }",
       {{"all", {4, 5}}}},
      {"dlrm", "dlrm { dense_mlp { hidden_units: [6, 4] } final { hidden_units: [5] } }", kFields},
      {"dlrm_pairs_only",
       "dlrm { dense_mlp { hidden_units: [4] } arch_with_sparse: false final { hidden_units: [5] } }", kFields},
      {"dlrm_one_group", "dlrm { final { hidden_units: [5] } }", {{"any", {4, 4, 4, 4, 4}}}},
      {"wukong",
       "wukong { dense_mlp { hidden_units: [4] } final { hidden_units: [5] }"
       " wukong_layers { lcb_feature_num: 3 fmb_feature_num: 2 compressed_feature_num: 2"
       " feature_num_mlp { hidden_units: [6] } }"
       " wukong_layers { lcb_feature_num: 2 fmb_feature_num: 3 feature_num_mlp { hidden_units: [6] } } }",
       kFields},
      {"xdeepfm",
       "xdeepfm { cin { cin_layer_size: [60, 4, 3] } deep { hidden_units: [6] } final { hidden_units: [5] } }",
       {{"wide", {16, 16, 16}}, {"deep", {4, 3}}}},
      {"ple",
       "ple { extraction_networks { network_name: 'one' expert_num_per_task: 2 share_num: 1"
       " task_expert_net { hidden_units: [6] } share_expert_net { hidden_units: [4, 6] } }"
       " extraction_networks { network_name: 'two' expert_num_per_task: 1 share_num: 2"
       " task_expert_net { hidden_units: [5] } share_expert_net { hidden_units: [5] } } " +
           towers + "}",
       {{"all", {4, 5}}}},
      {"pepnet",
       "pepnet { epnet_hidden_unit: 5 epnet_gamma: 1.5 ppnet_hidden_units: [7, 6] ppnet_activation: 'nn.Tanh'"
       " ppnet_gamma: 3 " +
           towers + "}",
       {{"all", {4, 5}}, {"domain", {3}}, {"uia", {2, 2}}}},
      {"pepnet_epnet_only", "pepnet { " + towers + "}", {{"all", {4, 5}}, {"domain", {3}}}},
      {"pepnet_ppnet_only", "pepnet { ppnet_hidden_units: [7] " + towers + "}", {{"all", {4, 5}}, {"uia", {2}}}},
      {"pepnet_neither", "pepnet { " + towers + "}", {{"all", {4, 5}}}},
      {"pepnet_domains",
       "pepnet { domain_input_name: 'z' task_domain_num: 3 ppnet_hidden_units: [7] " + towers + "}",
       {{"all", {4, 5}}, {"uia", {2}}}},
      {"dc2vr",
       "dc2vr { bottom_mlp { hidden_units: [9] } expert_mlp { hidden_units: [8] } num_expert: 2"
       " task_towers { tower_name: 'a' label_name: 'y' low_rank_dim: 1 losses { binary_cross_entropy {} }"
       "  mlp { hidden_units: [6] } }"
       " task_towers { tower_name: 'b' label_name: 'z' low_rank_dim: 3 losses { binary_cross_entropy {} }"
       "  dropout_ratio: 0 intervention_tower_names: 'a' }"
       " task_towers { tower_name: 'c' label_name: 'z' low_rank_dim: 2 losses { binary_cross_entropy {} }"
       "  dropout_ratio: 0 mlp { hidden_units: [5] } intervention_tower_names: ['b', 'a'] } }",
       {{"all", {4, 5}}}},
      {"rocket_launching",
       "rocket_launching { share_mlp { hidden_units: [8] } booster_mlp { hidden_units: [7, 6, 5, 6] }"
       " light_mlp { hidden_units: [5, 4, 6] } feature_based_distillation: true }",
       {{"all", {4, 5}}}},
      {"rocket_launching_euclid",
       "rocket_launching { booster_mlp { hidden_units: [7, 5] } light_mlp { hidden_units: [5] }"
       " feature_based_distillation: true feature_distillation_function: EUCLID }",
       {{"all", {4, 5}}}},
      {"sid_rqvae", "sid_rqvae { embed_dim: 4 codebook: [9, 7] }", {{"all", {4, 5}}}, kSidLosses},
      {"sid_rqvae_cosine",
       "sid_rqvae { embed_dim: 4 hidden_dims: [8, 6] codebook: [5, 5, 5] distance_type: 'cosine' rotation_trick: true"
       " normalize_residuals: true sinkhorn_config { enabled: false } }",
       {{"all", {4, 5}}},
       "losses { commitment_loss { latent_weight: [0.5, 2] commitment_type: 'cos' } }"
       "losses { recon_loss { recon_type: 'cos' } }"},
      {"sid_rqvae_l1",
       "sid_rqvae { embed_dim: 4 codebook: [6] sinkhorn_config { iters: 2 epsilon: 3 } }",
       {{"all", {4, 5}}},
       "losses { recon_loss { recon_type: 'l1' } } losses { commitment_loss { commitment_type: 'l1' } }"},
      {"rocket_launching_hint_only",
       "rocket_launching { booster_mlp { hidden_units: [7, 5] } light_mlp { hidden_units: [5] } } num_class: 2",
       {{"all", {4, 5}}}},
  };
}

struct Built {
  tzrec::protos::ModelConfig config;
  EmbeddingPlan plan;
  std::unique_ptr<Model> model;
};

Built Build(const Case& c) {
  Built built;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(c.model + " " + c.losses, &built.config)) << c.name;
  for (const auto& [name, widths] : c.groups) {
    Group group;
    group.name = name;
    if (name == "wide") group.type = tzrec::protos::WIDE;
    for (size_t f = 0; f < widths.size(); ++f) {
      group.features.push_back(name + std::to_string(f));
      group.feature_dims.push_back(widths[f]);
      group.width += widths[f];
    }
    built.config.add_feature_groups()->set_group_name(name);
    built.plan.groups.push_back(group);
  }
  built.model = MakeModel({built.config, built.plan, {"y", "z"}, {}});
  return built;
}

Groups RandomGroups(const EmbeddingPlan& plan, int64_t rows) {
  Groups groups;
  for (const Group& group : plan.groups)
    groups.plain[group.name] = at::randn({rows, group.width}).set_requires_grad(true);
  return groups;
}

/// What the heads give in training, and the model's own losses.
std::vector<at::Tensor> OutputsAndLosses(Model& model, const Groups& groups) {
  std::vector<at::Tensor> outputs = model.Forward(groups);
  const std::vector<at::Tensor> losses = model.OwnLosses(outputs, {});
  EXPECT_EQ(losses.size(), model.own_loss_names().size());
  outputs.resize(model.heads().size());
  outputs.insert(outputs.end(), losses.begin(), losses.end());
  return outputs;
}

/// Random inputs, parameters and gradients of the outputs, and what the model makes of them.
json Computed(const Case& c) {
  at::manual_seed(11);
  Built built = Build(c);
  for (const auto& parameter : built.model->NamedParameters())
    parameter.tensor.detach().add_(at::randn(parameter.tensor.sizes()), 0.2);
  const Groups groups = RandomGroups(built.plan, kRows);
  const std::vector<at::Tensor> outputs = OutputsAndLosses(*built.model, groups);
  json written{{"name", c.name},
               {"arithmetic", nn::Arithmetic::OfProcess().ToText()},
               {"own_losses", built.model->own_loss_names()}};
  at::Tensor loss = at::zeros({});
  for (const at::Tensor& output : outputs) {
    const at::Tensor seed = at::randn(output.sizes());
    loss = loss + (output * seed).sum();
    written["outputs"].push_back(Written(output));
    written["seeds"].push_back(Written(seed));
  }
  loss.backward();
  for (const auto& [name, tensor] : groups.plain) written["groups"][name] = WrittenWithGradient(tensor);
  for (const auto& [name, parameter] : built.model->NamedParameters())
    written["parameters"][name] = WrittenWithGradient(parameter);
  for (const auto& [name, buffer] : built.model->NamedBuffers()) written["buffers"][name] = Written(buffer);
  return written;
}

TEST(RankModels, WriteOutputsAndGradientsForTorchToCompare) {
  json written = json::array();
  for (const char* arithmetic : {"onednn", "reference"}) {
    nn::Arithmetic::OfProcess().FromText(arithmetic);
    for (const Case& c : Cases()) written.push_back(Computed(c));
  }
  std::ofstream out("models.json");
  ASSERT_TRUE(out << written.dump());
}

/// Exports trace a model with one batch and serve any other.
TEST(RankModels, AreTracedForEveryBatchSize) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    at::manual_seed(3);
    Built built = Build(c);
    built.model->Train(false);
    for (const auto& parameter : built.model->NamedParameters()) parameter.tensor.set_requires_grad(false);
    const auto stack = [&](int64_t rows) {
      std::vector<c10::IValue> values;
      for (const Group& group : built.plan.groups) values.emplace_back(at::randn({rows, group.width}));
      return values;
    };
    const auto forward = [&](std::vector<c10::IValue> values) {
      Groups groups;
      for (size_t g = 0; g < values.size(); ++g) groups.plain[built.plan.groups[g].name] = values[g].toTensor();
      std::vector<at::Tensor> outputs = built.model->Forward(groups);
      std::erase_if(outputs, [](const at::Tensor& output) { return !output.defined(); });
      return std::vector<c10::IValue>{at::cat(outputs, 1)};
    };
    const Traced traced(forward, stack(6));
    for (const int64_t rows : {6, 1, 33}) {
      std::vector<c10::IValue> values = stack(rows);
      const at::Tensor want = forward(values).front().toTensor();
      EXPECT_TRUE(at::allclose(traced(values), want, 1e-5, 1e-6)) << rows;
    }
  }
}

TEST(RankModels, FaultsNameTheirPlace) {
  const auto fault = [](const std::string& model, std::vector<std::pair<std::string, std::vector<int64_t>>> groups) {
    try {
      Build({"", model, std::move(groups)});
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const std::string dlrm = "dlrm { dense_mlp { hidden_units: [6] } final { hidden_units: [5] } }";
  EXPECT_EQ(fault(dlrm, kFields),
            "model_config.dlrm.dense_mlp: the last of hidden_units is 6, the features of group 'sparse' are 4 wide");
  EXPECT_EQ(fault(dlrm, {{"dense", {6}}, {"sparse", {6, 4}}}),
            "model_config.dlrm: feature 'sparse1' of group 'sparse' is 4 wide, 'sparse0' 6: they need one width");
  EXPECT_EQ(fault("wukong { final { hidden_units: [5] } }", kFields),
            "model_config.wukong: the feature group 'dense' needs dense_mlp");
  EXPECT_EQ(fault(std::string("pepnet { domain_input_name: 'd' ") + kTowers + "}", {{"all", {4}}}),
            "model_config.pepnet.domain_input_name: 'd' is not in data_config.label_fields");
  EXPECT_EQ(fault("dc2vr { task_towers { tower_name: 'a' label_name: 'y' low_rank_dim: 1 mlp { hidden_units: 3 } } "
                  "task_towers { tower_name: 'b' label_name: 'z' low_rank_dim: 3 intervention_tower_names: 'a' } }",
                  {{"all", {4}}}),
            "task_towers 'b'.low_rank_dim is 3; its vector of 4 numbers and the others' of 3 allow 1 to 2");
}

}  // namespace
}  // namespace anneal::models
