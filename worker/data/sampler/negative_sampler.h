// Negative samples: items that a batch's users are not known to want (parity/data.md 5).
#pragma once

#include <arrow/type_fwd.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tzrec/data.pb.h"
#include "worker/data/row_slice.h"
#include "worker/data/sampler/sampling_request.h"

namespace anneal::data {

struct Negatives {
  std::vector<int64_t>
      items;  ///< rows of NegativeSampler::attributes(): those that the batch shares, then the hard ones
  /// Of each hard one: the row of the batch that it belongs to, and its running number within that row.
  std::vector<std::pair<int32_t, int32_t>> hard_indices;
};

/// Const once it is made: reader threads share it.
class NegativeSampler {
 public:
  using Warn = std::function<void(const std::string&)>;

  /// Reads the tables of the sampler that data_config has, unless another one of the process has them. `training`
  /// decides between num_sample and num_eval_sample. Attributes get the types of the columns of `input`. `warn` is told
  /// of attr_fields that nothing reads and of edges to unknown items. Throws ConfigError for a table that is no file,
  /// DataError for what is wrong in one.
  ///
  /// - negative_sampler, hard_negative_sampler: items by their weights, none of the batch's positives.
  /// - negative_sampler_v2, hard_negative_sampler_v2: all items alike, each of P rows' share of ceil(num_sample / P)
  ///   without those that a positive edge connects to its user; the shares one after the other, cut to num_sample.
  /// - hard_...: besides, the first num_hard_sample items on the hard edges of every row's user.
  ///
  /// Items are drawn with replacement. Where nothing may be drawn (every item that weighs more than 0 is a positive,
  /// the user is connected to all), the draw heeds no positives: there are exactly num_sample shared ones, always.
  static std::shared_ptr<const NegativeSampler> Make(const tzrec::protos::DataConfig& config, bool training,
                                                     const arrow::Schema& input, const Warn& warn);

  /// What streams make their samplers with, Make() until a test sets another.
  using Maker = std::function<decltype(Make)>;
  static Maker& MakerOfStreams();

  virtual ~NegativeSampler() = default;
  virtual Negatives Sample(const SamplingRequest& request) const = 0;
  /// A row per item, a column for each of attr_fields that the input has.
  virtual const RowSlice& attributes() const = 0;
};

}  // namespace anneal::data
