#include "worker/nn/sequence_encoder.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"
#include "worker/nn/din.h"
#include "worker/nn/masked_attention.h"
#include "worker/nn/multi_window_din.h"
#include "worker/nn/self_attention.h"

namespace anneal::nn {
namespace {

using tzrec::protos::SeqEncoderConfig;

/// Scores are the products of the positions with the query, which is as wide as they are.
class SimpleAttention : public SequenceEncoder {
 public:
  explicit SimpleAttention(int64_t max_length) : max_length_(max_length) {}
  at::Tensor Forward(const Sequence& input) override {
    const Sequence seen = Truncate(input, max_length_);
    return Attend(at::matmul(seen.sequence, seen.query.unsqueeze(2)).squeeze(2), seen);
  }

 private:
  int64_t max_length_;
};

/// The sum of the positions, or their mean (zeros for a row without any).
class Pooling : public SequenceEncoder {
 public:
  Pooling(bool mean, int64_t max_length) : mean_(mean), max_length_(max_length) {}
  at::Tensor Forward(const Sequence& input) override {
    const Sequence seen = Truncate(input, max_length_);
    const at::Tensor sum = seen.sequence.sum(1);
    return mean_ ? sum / seen.length.clamp_min(1).unsqueeze(1) : sum;
  }

 private:
  bool mean_;
  int64_t max_length_;
};

std::unique_ptr<SequenceEncoder> MakePooling(const tzrec::protos::PoolingEncoder& config, const std::string& where) {
  const std::string& type = config.pooling_type();
  if (type != "mean" && type != "sum") throw ConfigError(where + ".pooling_type: '" + type + "' is not sum or mean");
  return std::make_unique<Pooling>(type == "mean", config.max_seq_length());
}

std::unique_ptr<SequenceEncoder> MakeSelfAttention(const tzrec::protos::SelfAttentionEncoder& config,
                                                   int64_t sequence_width, const std::string& where) {
  const int64_t width = config.multihead_attn_dim(), heads = config.num_heads();
  if (width < 1 || heads < 1 || width % heads != 0) {
    throw ConfigError(where + ": multihead_attn_dim " + std::to_string(width) + " is no multiple of num_heads " +
                      std::to_string(heads));
  }
  return std::make_unique<SelfAttention>(sequence_width, config);
}

}  // namespace

std::unique_ptr<SequenceEncoder> MakeSequenceEncoder(const SeqEncoderConfig& config, int64_t query_width,
                                                     int64_t sequence_width) {
  const auto* chosen = SeqEncoderConfig::descriptor()->FindFieldByNumber(config.seq_module_case());
  if (!chosen) throw ConfigError("sequence_encoders: no encoder is set");
  const std::string where = chosen->name() + " of '" + EncoderInput(config) + "'";
  switch (config.seq_module_case()) {
    case SeqEncoderConfig::kDinEncoder:
      RequireQuery(query_width, sequence_width, where);
      return std::make_unique<Din>(query_width, sequence_width, config.din_encoder().attn_mlp(),
                                   config.din_encoder().max_seq_length());
    case SeqEncoderConfig::kSimpleAttention:
      RequireQuery(query_width, sequence_width, where);
      if (query_width < sequence_width) {
        throw ConfigError(where + ": the query is " + std::to_string(query_width) + " wide, the sequence " +
                          std::to_string(sequence_width) + "; they have to be equal");
      }
      return std::make_unique<SimpleAttention>(config.simple_attention().max_seq_length());
    case SeqEncoderConfig::kPoolingEncoder:
      return MakePooling(config.pooling_encoder(), where);
    case SeqEncoderConfig::kMultiWindowDinEncoder: {
      const auto& windowed = config.multi_window_din_encoder();
      RequireQuery(query_width, sequence_width, where);
      if (windowed.windows_len().empty()) throw ConfigError(where + ": windows_len is empty");
      return std::make_unique<MultiWindowDin>(
          query_width, sequence_width, windowed.attn_mlp(),
          std::vector<int64_t>(windowed.windows_len().begin(), windowed.windows_len().end()));
    }
    case SeqEncoderConfig::kSelfAttentionEncoder:
      return MakeSelfAttention(config.self_attention_encoder(), sequence_width, where);
    case SeqEncoderConfig::SEQ_MODULE_NOT_SET:
      break;
  }
  throw ConfigError(where + ": not supported yet");
}

int64_t EncodedWidth(const SeqEncoderConfig& config, int64_t sequence_width) {
  switch (config.seq_module_case()) {
    case SeqEncoderConfig::kMultiWindowDinEncoder:
      return sequence_width * (config.multi_window_din_encoder().windows_len_size() + 1);
    case SeqEncoderConfig::kSelfAttentionEncoder:
      return config.self_attention_encoder().multihead_attn_dim();
    default:
      return sequence_width;
  }
}

int64_t MaxLength(const SeqEncoderConfig& config) {
  switch (config.seq_module_case()) {
    case SeqEncoderConfig::kDinEncoder:
      return config.din_encoder().max_seq_length();
    case SeqEncoderConfig::kSimpleAttention:
      return config.simple_attention().max_seq_length();
    case SeqEncoderConfig::kPoolingEncoder:
      return config.pooling_encoder().max_seq_length();
    case SeqEncoderConfig::kSelfAttentionEncoder:
      return config.self_attention_encoder().max_seq_length();
    default:
      return 0;
  }
}

const std::string& EncoderInput(const SeqEncoderConfig& config) {
  switch (config.seq_module_case()) {
    case SeqEncoderConfig::kDinEncoder:
      return config.din_encoder().input();
    case SeqEncoderConfig::kSimpleAttention:
      return config.simple_attention().input();
    case SeqEncoderConfig::kMultiWindowDinEncoder:
      return config.multi_window_din_encoder().input();
    case SeqEncoderConfig::kSelfAttentionEncoder:
      return config.self_attention_encoder().input();
    default:  // its input is empty when another or none is set
      return config.pooling_encoder().input();
  }
}

}  // namespace anneal::nn
