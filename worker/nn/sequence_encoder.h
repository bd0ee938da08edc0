// Encoders of a row's sequence into one vector (parity/models.md 5).
#pragma once

#include <memory>

#include "tzrec/seq_encoder.pb.h"
#include "worker/nn/module.h"

namespace anneal::nn {

/// A sequence group of a batch of B rows, padded to T positions, or jagged.
struct Sequence {
  at::Tensor query;     ///< [B, Dq] float32; undefined when the group has no query feature
  at::Tensor sequence;  ///< [B, T, Ds] float32, zeros behind the end of each row; jagged [sum of lengths, Ds]
  at::Tensor length;    ///< [B] int64; more than T where nobody reads on
  at::Tensor mask;      ///< [B, T] bool: the position is before the row's end; undefined when jagged
};

class SequenceEncoder : public Module {
 public:
  /// -> [B, EncodedWidth]. Traceable: nothing of it depends on B or T as numbers.
  virtual at::Tensor Forward(const Sequence& input) = 0;
};

/// Throws ConfigError for widths that do not fit, and for an encoder that needs a query and has none.
std::unique_ptr<SequenceEncoder> MakeSequenceEncoder(const tzrec::protos::SeqEncoderConfig& config, int64_t query_width,
                                                     int64_t sequence_width);

/// Columns of what the encoder returns.
int64_t EncodedWidth(const tzrec::protos::SeqEncoderConfig& config, int64_t sequence_width);

/// Positions that the encoder reads, 0: all.
int64_t MaxLength(const tzrec::protos::SeqEncoderConfig& config);

/// The `input` of the encoder that is set: the name of a sequence group, or empty.
const std::string& EncoderInput(const tzrec::protos::SeqEncoderConfig& config);

}  // namespace anneal::nn
