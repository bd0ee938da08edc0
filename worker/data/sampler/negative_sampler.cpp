#include "worker/data/sampler/negative_sampler.h"

#include <arrow/type.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>

#include "worker/config/error.h"
#include "worker/config/sampler_settings.h"
#include "worker/data/sampler/alias_table.h"
#include "worker/data/sampler/edge_table.h"
#include "worker/data/sampler/node_table.h"
#include "worker/data/sampler/shared_tables.h"

namespace anneal::data {
namespace {

using config::SamplerSettings;
using config::SamplerTable;

/// Draws of one batch by weight, without its positives.
class WeightedDraws {
 public:
  WeightedDraws(const NodeTable& items, const AliasTable& alias, std::span<const int64_t> positives)
      : items_(items), alias_(alias) {
    for (const int64_t id : positives) {
      if (const int64_t row = items.Find(id); row >= 0) positives_.push_back(row);
    }
    std::sort(positives_.begin(), positives_.end());
  }

  int64_t Next(std::mt19937_64& random) {
    constexpr int kTries = 64;
    for (int i = 0; i < kTries && !others_; ++i) {
      const int64_t row = alias_.Draw(random());
      if (!IsPositive(row)) return row;
    }
    // Positives hold nearly all the weight: what else there is has to be looked at.
    if (!others_) FindOthers();
    if (others_->empty()) return alias_.Draw(random());
    const double at = std::ldexp(static_cast<double>(random() >> 11), -53) * others_->back().second;
    return std::upper_bound(others_->begin(), others_->end(), at,
                            [](double value, const auto& other) { return value < other.second; })
        ->first;
  }

 private:
  bool IsPositive(int64_t row) const { return std::binary_search(positives_.begin(), positives_.end(), row); }

  void FindOthers() {
    others_.emplace();
    double sum = 0;
    for (int64_t row = 0; row < items_.size(); ++row) {
      const float weight = items_.weights()[row];
      if (weight > 0 && !IsPositive(row)) others_->emplace_back(row, sum += weight);
    }
  }

  const NodeTable& items_;
  const AliasTable& alias_;
  std::vector<int64_t> positives_;  ///< rows, ascending
  /// Rows that may be drawn, with the sum of the weights up to them.
  std::optional<std::vector<std::pair<int64_t, double>>> others_;
};

/// A row of the `count` ones, all alike, that is not among the ascending `excluded`.
int64_t DrawOutside(std::span<const int32_t> excluded, int64_t count, uint64_t random) {
  const int64_t left = count - std::ssize(excluded);
  if (left <= 0) return Below(count, random);
  const int64_t nth = Below(left, random);
  // Before the nth row outside lie those excluded rows that have at most nth rows outside before them.
  int64_t low = 0, high = std::ssize(excluded);
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (excluded[middle] - middle <= nth) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return nth + low;
}

/// What a sampler reads.
struct Tables {
  Tables(const SamplerSettings& settings, AttributeColumns& attributes, const NegativeSampler::Warn& warn)
      : items(settings.items.path, settings.field_delimiter, &attributes) {
    // Edges tell all that is asked of users; their table is only checked.
    if (settings.users) NodeTable(settings.users->path, settings.field_delimiter, nullptr);
    const auto read = [&](const std::optional<SamplerTable>& table, std::optional<EdgeTable>& edges) {
      if (!table) return;
      edges.emplace(table->path, settings.field_delimiter, items);
      if (edges->unknown() > 0) {
        warn(table->path + ": " + std::to_string(edges->unknown()) + " edges to items that " + settings.items.path +
             " does not have, the first in row " + std::to_string(edges->first_unknown_line()) + ", are not used");
      }
    };
    read(settings.positive_edges, positive_edges);
    read(settings.hard_edges, hard_edges);
    if (positive_edges) {
      positive_edges->SortTargets();
    } else {
      const std::vector<float>& weights = items.weights();
      if (std::none_of(weights.begin(), weights.end(), [](float weight) { return weight > 0; })) {
        throw DataError(settings.items.path + ", column weight: no item weighs more than 0");
      }
      alias.emplace(weights);
    }
  }

  NodeTable items;
  std::optional<AliasTable> alias;  ///< of items that are drawn by weight
  std::optional<EdgeTable> positive_edges, hard_edges;
};

class TableSampler : public NegativeSampler {
 public:
  TableSampler(const SamplerSettings& settings, bool training, std::shared_ptr<const Tables> tables)
      : count_(settings.Count(training)), most_hard_(settings.num_hard_sample), tables_(std::move(tables)) {}

  Negatives Sample(const SamplingRequest& request) const override {
    Negatives negatives;
    negatives.items.reserve(count_);
    std::mt19937_64 random = request.Random();
    if (const auto& edges = tables_->positive_edges) {
      const int64_t rows = std::ssize(request.users), share = (count_ + rows - 1) / rows;
      for (int64_t i = 0; i < count_; ++i) {
        const std::span<const int32_t> wanted = edges->Of(request.users[i / share]);
        negatives.items.push_back(DrawOutside(wanted, tables_->items.size(), random()));
      }
    } else {
      WeightedDraws draws(tables_->items, *tables_->alias, request.items);
      for (int64_t i = 0; i < count_; ++i) negatives.items.push_back(draws.Next(random));
    }
    for (size_t row = 0; tables_->hard_edges && row < request.users.size(); ++row) {
      const std::span<const int32_t> targets = tables_->hard_edges->Of(request.users[row]);
      for (size_t i = 0; i < std::min<size_t>(targets.size(), most_hard_); ++i) {
        negatives.items.push_back(targets[i]);
        negatives.hard_indices.emplace_back(static_cast<int32_t>(row), static_cast<int32_t>(i));
      }
    }
    return negatives;
  }

  const RowSlice& attributes() const override { return tables_->items.attributes(); }

 private:
  int64_t count_;
  uint32_t most_hard_;
  std::shared_ptr<const Tables> tables_;
};

}  // namespace

std::shared_ptr<const NegativeSampler> NegativeSampler::Make(const tzrec::protos::DataConfig& config, bool training,
                                                             const arrow::Schema& input, const Warn& warn) {
  const auto fail = [](const std::string& path, const std::string& message) {
    throw ConfigError(path + ": " + message);
  };
  config::CheckSampler(config, fail);
  config::CheckSamplerFiles(config, fail);
  const SamplerSettings settings = config::SamplerOf(config).value();
  const std::string key = TablesKey(config.ShortDebugString(), settings.Tables(), settings.attr_fields, input);
  const auto tables = SharedTables<Tables>(key, [&] {
    AttributeColumns attributes(settings.attr_fields, settings.attr_delimiter, input);
    attributes.TellOfUnread(settings.field, warn);
    return std::make_shared<const Tables>(settings, attributes, warn);
  });
  return std::make_shared<TableSampler>(settings, training, tables);
}

NegativeSampler::Maker& NegativeSampler::MakerOfStreams() {
  static Maker maker = Make;
  return maker;
}

}  // namespace anneal::data
