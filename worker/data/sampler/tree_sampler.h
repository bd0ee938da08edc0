// Positive and negative nodes of a tree for a batch of items (parity/data.md 8).
#pragma once

#include <arrow/type_fwd.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tzrec/data.pb.h"
#include "worker/data/row_slice.h"
#include "worker/data/sampler/sampling_request.h"

namespace anneal::data {

/// Rows of TreeSampler::attributes(): the ancestors of each row's item, row by row, then the negatives, row by row.
struct TreeNodes {
  std::vector<int64_t> nodes;
  std::vector<int32_t> rows;  ///< of each node: the row of the batch that it belongs to
  int64_t ancestors = 0;      ///< of `nodes`, the first ones
};

/// A row's item is none that the tree has.
struct UnknownLeaf {
  int64_t row = 0;  ///< of the batch
};

/// Const once it is made: reader threads share it.
class TreeSampler {
 public:
  using Warn = std::function<void(const std::string&)>;

  /// Reads the tables of data_config's tdm_sampler, unless another one of the process has them. Attributes get the
  /// types of the columns of `input`. `warn` is told of attr_fields that nothing reads. Throws ConfigError for a table
  /// that is no file, DataError for what is wrong in one.
  ///
  /// A batch has the leaves' level and round(remain_ratio * n) of the n levels between root and leaves, chosen without
  /// replacement with probabilities proportional to 1 (UNIFORM), to the level (ARITHMETIC), or to 1 / (n + 1 - level)
  /// (RECIPROCAL). A row has its leaf's ancestor of each such level, and of each level and the leaves' layer_num_sample
  /// other nodes, drawn by weight, none twice and not the leaf or its ancestor.
  static std::shared_ptr<const TreeSampler> Make(const tzrec::protos::DataConfig& config, const arrow::Schema& input,
                                                 const Warn& warn);

  /// What streams make their samplers with, Make() until a test sets another.
  using Maker = std::function<decltype(Make)>;
  static Maker& MakerOfStreams();

  virtual ~TreeSampler() = default;
  /// Throws UnknownLeaf.
  virtual TreeNodes Sample(const SamplingRequest& request) const = 0;
  /// A row per node, a column for each of attr_fields that the input has.
  virtual const RowSlice& attributes() const = 0;
};

}  // namespace anneal::data
