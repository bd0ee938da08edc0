// Encoders on padded sequences, for encoders.py to compute with torch, row by row without padding; padding, empty rows
// and other sizes after tracing; what has to fail.
#include "worker/nn/sequence_encoder.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"

namespace anneal::nn {
namespace {

using nlohmann::json;

tzrec::protos::SeqEncoderConfig Config(const std::string& text) {
  tzrec::protos::SeqEncoderConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  return config;
}

/// Rows of the given lengths, padded to the longest.
Sequence Rows(const std::vector<int64_t>& lengths, int64_t query_width, int64_t width) {
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  Sequence rows;
  rows.length = at::tensor(lengths, at::kLong);
  rows.mask = at::arange(longest).unsqueeze(0) < rows.length.unsqueeze(1);
  rows.query = at::randn({rows.length.size(0), query_width});
  rows.sequence = at::randn({rows.length.size(0), longest, width}) * rows.mask.unsqueeze(2);
  return rows;
}

const std::vector<int64_t> kLengths = {3, 0, 6, 1, 4, 2};

struct Case {
  const char *name, *config;
  int64_t query_width, width;
};

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = {
      {"din", "din_encoder { input: 's' attn_mlp { hidden_units: [8, 4] } }", 5, 5},
      {"din_dice", "din_encoder { input: 's' attn_mlp { hidden_units: [8, 4] activation: 'Dice' } }", 3, 5},
      {"din_norm",
       "din_encoder { input: 's' attn_mlp { hidden_units: [8] activation: 'nn.PReLU' use_bn: true } max_seq_length: 4 "
       "}",
       5, 5},
      {"din_norm_dice", "din_encoder { input: 's' attn_mlp { hidden_units: [6, 3] activation: 'Dice' use_bn: true } }",
       4, 5},
      {"simple", "simple_attention { input: 's' }", 5, 5},
      {"simple_cut", "simple_attention { input: 's' max_seq_length: 2 }", 5, 5},
      {"mean", "pooling_encoder { input: 's' }", 2, 5},
      {"mean_cut", "pooling_encoder { input: 's' max_seq_length: 3 }", 2, 5},
      {"sum_cut", "pooling_encoder { input: 's' pooling_type: 'sum' max_seq_length: 3 }", 2, 5},
      {"windows",
       "multi_window_din_encoder { input: 's' attn_mlp { hidden_units: [8] activation: 'nn.PReLU' } "
       "windows_len: [1, 2, 5, 2] }",
       5, 5},
      {"windows_short",
       "multi_window_din_encoder { input: 's' attn_mlp { hidden_units: [8, 4] use_bn: true } windows_len: [1, 2] }", 2,
       5},
      {"heads", "self_attention_encoder { input: 's' multihead_attn_dim: 12 num_heads: 3 }", 2, 5},
      {"heads_cut", "self_attention_encoder { input: 's' multihead_attn_dim: 8 num_heads: 2 max_seq_length: 3 }", 2, 5},
  };
  return cases;
}

json Written(const at::Tensor& tensor) {
  const at::Tensor flat =
      tensor.detach().to(at::isIntegralType(tensor.scalar_type(), false) ? at::kLong : at::kFloat).contiguous();
  json values = json::array();
  for (int64_t i = 0; i < flat.numel(); ++i) {
    if (flat.scalar_type() == at::kLong) {
      values.push_back(flat.const_data_ptr<int64_t>()[i]);
    } else {
      values.push_back(flat.const_data_ptr<float>()[i]);
    }
  }
  return {{"integer", flat.scalar_type() == at::kLong}, {"shape", tensor.sizes().vec()}, {"values", values}};
}

TEST(SequenceEncoders, WriteTheirOutputsAndGradientsForTorchToCompare) {
  at::manual_seed(11);
  json written = json::array();
  for (const Case& c : Cases()) {
    const auto config = Config(c.config);
    const auto encoder = MakeSequenceEncoder(config, c.query_width, c.width);
    Sequence rows = Rows(kLengths, c.query_width, c.width);
    rows.query.set_requires_grad(true);
    rows.sequence.set_requires_grad(true);
    // Biases and slopes that start as zeros would hide a mistake.
    for (const auto& [name, parameter] : encoder->NamedParameters())
      parameter.detach().add_(at::randn_like(parameter), 0.1);
    const at::Tensor output = encoder->Forward(rows);
    ASSERT_EQ(output.size(1), EncodedWidth(config, c.width)) << c.name;
    const at::Tensor weights = at::randn_like(output);
    (output * weights).sum().backward();
    json tensors = {{"query", Written(rows.query)},
                    {"sequence", Written(rows.sequence)},
                    {"length", Written(rows.length)},
                    {"output", Written(output)},
                    {"weights", Written(weights)}},
         gradients = json::object();
    auto learned = encoder->NamedParameters();
    learned.push_back({"query", rows.query});
    learned.push_back({"sequence", rows.sequence});
    for (const auto& [name, tensor] : learned) {
      tensors[name] = Written(tensor);
      gradients[name] = Written(tensor.grad().defined() ? tensor.grad() : at::zeros_like(tensor));
      EXPECT_TRUE(at::isfinite(at::tensor(gradients[name]["values"].get<std::vector<float>>())).all().item<bool>())
          << c.name << " " << name;
    }
    for (const auto& [name, buffer] : encoder->NamedBuffers()) tensors[name] = Written(buffer);
    std::string text;
    google::protobuf::util::JsonPrintOptions options;
    options.preserve_proto_field_names = true;
    ASSERT_TRUE(google::protobuf::util::MessageToJsonString(config, &text, options).ok());
    const json whole = json::parse(text);
    written.push_back({{"name", c.name},
                       {"encoder", whole.begin().key()},
                       {"config", whole.begin().value()},
                       {"tensors", tensors},
                       {"gradients", gradients}});
  }
  std::ofstream out("encoders.json");
  ASSERT_TRUE(out << written.dump());
}

// A batch's longest row decides about padding only; statistics of the batch are fixed in inference.
TEST(SequenceEncoders, MorePaddingChangesNothing) {
  at::manual_seed(12);
  for (const Case& c : Cases()) {
    const auto encoder = MakeSequenceEncoder(Config(c.config), c.query_width, c.width);
    encoder->Train(false);
    Sequence rows = Rows(kLengths, c.query_width, c.width);
    const at::Tensor want = encoder->Forward(rows);
    rows.sequence = at::constant_pad_nd(rows.sequence, {0, 0, 0, 4});
    rows.mask = at::constant_pad_nd(rows.mask, {0, 4});
    EXPECT_LE((encoder->Forward(rows) - want).abs().max().item<float>(), 1e-6) << c.name;
  }
}

TEST(SequenceEncoders, EmptyRowsGiveZeros) {
  for (const Case& c : Cases()) {
    const auto encoder = MakeSequenceEncoder(Config(c.config), c.query_width, c.width);
    for (const bool training : {true, false}) {
      encoder->Train(training);
      for (const std::vector<int64_t>& lengths : {std::vector<int64_t>{0, 0}, {0, 3}}) {
        const Sequence rows = Rows(lengths, c.query_width, c.width);
        at::Tensor(rows.sequence).set_requires_grad(true);
        at::Tensor output = encoder->Forward(rows);
        output.sum().backward();
        if (std::string(c.name).starts_with("windows")) {  // ends with the query
          EXPECT_TRUE(output.slice(1, -c.width).slice(1, 0, c.query_width).equal(rows.query)) << c.name;
          output = output.slice(1, 0, -c.width);
        }
        EXPECT_TRUE(output[0].equal(at::zeros_like(output[0]))) << c.name;
      }
    }
    for (const auto& [name, parameter] : encoder->NamedParameters()) {
      if (parameter.grad().defined()) {
        EXPECT_TRUE(at::isfinite(parameter.grad()).all().item<bool>()) << c.name << " " << name;
      }
    }
  }
}

// An exported model is traced with one batch and gets others.
TEST(SequenceEncoders, TracedOnesTakeBatchesOfOtherSizes) {
  at::manual_seed(13);
  for (const Case& c : Cases()) {
    const auto encoder = MakeSequenceEncoder(Config(c.config), c.query_width, c.width);
    encoder->Train(false);
    for (const auto& [name, parameter] : encoder->NamedParameters()) {
      at::Tensor(parameter).set_requires_grad(false);  // constants of the graph
    }
    const auto inputs = [](const Sequence& rows) {
      return torch::jit::Stack{rows.query, rows.sequence, rows.length, rows.mask};
    };
    const auto traced = torch::jit::tracer::trace(
        inputs(Rows({3, 6, 0, 2}, c.query_width, c.width)),
        [&](torch::jit::Stack stack) -> torch::jit::Stack {
          return {
              encoder->Forward({stack[0].toTensor(), stack[1].toTensor(), stack[2].toTensor(), stack[3].toTensor()})};
        },
        [](const at::Tensor&) { return std::string(); });
    torch::jit::GraphFunction function("encode", traced.first->graph, nullptr);
    for (const std::vector<int64_t>& lengths :
         {std::vector<int64_t>{3, 6, 0, 2}, {1}, {0, 0, 0}, {2, 11, 5, 0, 9, 3, 7}}) {
      const Sequence rows = Rows(lengths, c.query_width, c.width);
      torch::jit::Stack stack = inputs(rows);
      function.run(stack);
      EXPECT_TRUE(at::allclose(stack.at(0).toTensor(), encoder->Forward(rows), 1e-5, 1e-6))
          << c.name << " of " << lengths.size() << " rows";
    }
  }
}

TEST(SequenceEncoders, DropoutOfAttentionIsForTrainingOnly) {
  const auto encoder = MakeSequenceEncoder(
      Config("self_attention_encoder { input: 's' multihead_attn_dim: 8 num_heads: 2 dropout: 0.5 }"), 0, 5);
  const Sequence rows = Rows(kLengths, 5, 5);
  EXPECT_FALSE(encoder->Forward(rows).equal(encoder->Forward(rows)));
  encoder->Train(false);
  EXPECT_TRUE(encoder->Forward(rows).equal(encoder->Forward(rows)));
}

TEST(SequenceEncoders, WidthsThatDoNotFit) {
  struct Wrong {
    const char* config;
    int64_t query_width;
    const char* message;
  };
  for (const Wrong& wrong :
       {Wrong{"din_encoder { input: 's' attn_mlp { hidden_units: 8 } }", 0, "din_encoder of 's': there is no query"},
        Wrong{"din_encoder { input: 's' attn_mlp { hidden_units: 8 } }", 6, "the query is 6 wide, the sequence only 5"},
        Wrong{"simple_attention { input: 's' }", 4, "they have to be equal"},
        Wrong{"pooling_encoder { input: 's' pooling_type: 'max' }", 5, "'max' is not sum or mean"},
        Wrong{"multi_window_din_encoder { input: 's' attn_mlp { hidden_units: 8 } }", 5, "windows_len is empty"},
        Wrong{"self_attention_encoder { input: 's' multihead_attn_dim: 10 num_heads: 4 }", 5,
              "no multiple of num_heads"},
        Wrong{"", 5, "no encoder is set"}}) {
    try {
      MakeSequenceEncoder(Config(wrong.config), wrong.query_width, 5);
      ADD_FAILURE() << wrong.config;
    } catch (const ConfigError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(wrong.message));
    }
  }
}

}  // namespace
}  // namespace anneal::nn
