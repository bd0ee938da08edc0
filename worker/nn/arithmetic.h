// How this process computes dense layers: in the reference's order of rounding, or with the kernels that were the
// fastest on this machine (docs/decisions/0004-measured-kernels.md).
#pragma once

#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "worker/nn/blocked_linear.h"
#include "worker/nn/module.h"

namespace anneal::nn {

/// A way to compute a float32 matrix product. All have the same accuracy; they round differently.
enum class Gemm {
  kStock,       ///< the BLAS behind at::mm, operands as autograd would pass them
  kTransposed,  ///< the same BLAS, the transposed product: faster for some odd widths
  kOneDnn,      ///< oneDNN: faster than MKL on AMD cores
  kBlocked,     ///< our own (blocked_linear.h); in backward for both products or for none
};

/// The three products of a linear layer y = x W' + b; x [B, in], W [out, in].
struct LinearKernels {
  Gemm forward = Gemm::kStock;
  Gemm input_gradient = Gemm::kStock;   ///< g W
  Gemm weight_gradient = Gemm::kStock;  ///< g' x

  at::Tensor Forward(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                     bool relu) const;
  /// g = d loss / d y; `relu_output` is y of a layer with ReLU, else undefined. Changes g in place when nobody else has
  /// it.
  LinearGradients Backward(at::Tensor g, const at::Tensor& relu_output, const at::Tensor& x, const at::Tensor& weight,
                           bool want_x, bool want_bias) const;

  /// One product by one of LibTorch's kernels.
  at::Tensor InputGradient(const at::Tensor& g, const at::Tensor& weight) const;
  at::Tensor WeightGradient(const at::Tensor& g, const at::Tensor& x) const;
};

/// The process's choice. Made once before training; not for several threads at a time.
class Arithmetic {
 public:
  /// Starts as the reference when USE_DETERMINISTIC_ALGORITHMS=1 or ANNEAL_LINEAR=stock. ANNEAL_LINEAR=onednn or
  /// =blocked: that for everything, nothing is measured; =repeated: blocked, and repeated rows computed once wherever
  /// there are any. Throws ConfigError for another value.
  static Arithmetic& OfProcess();

  /// True: LibTorch's own operators and autograd everywhere, so that training equals TorchEasyRec's to the last bit.
  bool reference() const { return reference_; }
  /// True when the environment decided: what a checkpoint says does not count then.
  bool forced() const { return forced_; }

  /// Kernels of a layer of that shape. Stock ones for a shape that was not measured.
  const LinearKernels& Find(int64_t out, int64_t in) const;

  /// False: PaysToRepeat is false of everything.
  bool computes_repeated() const;
  /// Whether to compute a linear layer's product with `distinct` rows of `width` numbers once and to add it up for
  /// the `rows` rows that hold them (repeated_linear.h).
  bool PaysToRepeat(int64_t width, int64_t distinct, int64_t rows) const;

  /// Measures the linear layers among the parameters (weights of two axes) on batches of up to `rows` rows, unless they
  /// are known or forced. A choice is kept per machine, LibTorch version, instruction set, threads and batch in
  /// $XDG_CACHE_HOME/anneal (or ~/.cache/anneal): the second run starts faster, and like the first.
  void Measure(const std::vector<NamedTensor>& parameters, int64_t rows);

  /// "reference", "onednn", "blocked", "repeated", or "sum:5.5 512x429:onednn,onednn,transposed 256x512:..." for a
  /// checkpoint, where a text without "sum" is one of a version that did not know of repeated rows; FromText
  /// takes it back and throws DataError for a text that is none.
  std::string ToText() const;
  void FromText(const std::string& text);

 private:
  Arithmetic();

  bool reference_ = false, forced_ = false;
  LinearKernels default_;
  /// Multiply-adds in whose time a row of products is added to another, for each number of it. Infinite: never.
  double sum_cost_ = std::numeric_limits<double>::infinity();
  std::map<std::pair<int64_t, int64_t>, LinearKernels> kernels_;
};

}  // namespace anneal::nn
