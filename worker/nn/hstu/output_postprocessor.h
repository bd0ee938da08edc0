// The last step of a transducer (parity/models.md 14.3).
#pragma once

#include <memory>

#include "tzrec/module.pb.h"
#include "worker/nn/module.h"

namespace anneal::nn::hstu {

class OutputPostprocessor : public Module {
 public:
  /// x [n, D]; times [n] float32 seconds, read where reads_times(). -> [n, D]
  virtual at::Tensor Forward(const at::Tensor& x, const at::Tensor& times) = 0;
  virtual bool reads_times() const { return false; }
};

/// l2norm: x / max(|x|, 1e-6). layernorm. timestamp_layernorm: LayerNorm(Linear([x | cos a_1, sin a_1, ...])) with an
/// angle a = (floor(t / unit) mod period) / period 2 * 3.14 (sic) for each unit of time_duration_period_units and
/// period of time_duration_units_per_period.
std::unique_ptr<OutputPostprocessor> MakeOutputPostprocessor(const tzrec::protos::GROutputPostprocessor& config,
                                                             int64_t width);

}  // namespace anneal::nn::hstu
