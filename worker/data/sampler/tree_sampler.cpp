#include "worker/data/sampler/tree_sampler.h"

#include <arrow/type.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "worker/config/error.h"
#include "worker/config/tree_sampler_settings.h"
#include "worker/data/sampler/shared_tables.h"
#include "worker/data/sampler/tree_table.h"

namespace anneal::data {
namespace {

using config::TreeSamplerSettings;

double Uniform(std::mt19937_64& random) { return std::ldexp(static_cast<double>(random() >> 11), -53); }

/// The place of a number drawn by those weights, one of which is more than 0.
size_t DrawByWeight(std::span<const double> weights, std::mt19937_64& random) {
  double total = 0;
  for (const double weight : weights) total += weight;
  double at = Uniform(random) * total;
  size_t last = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] <= 0) continue;
    last = i;
    if ((at -= weights[i]) < 0) break;
  }
  return last;
}

double LevelWeight(const std::string& type, int64_t level, int64_t inner) {
  if (type == "ARITHMETIC") return static_cast<double>(level);
  if (type == "RECIPROCAL") return 1.0 / static_cast<double>(inner + 1 - level);
  return 1.0;
}

class TableTreeSampler : public TreeSampler {
 public:
  TableTreeSampler(const TreeSamplerSettings& settings, std::shared_ptr<const TreeTable> tree)
      : counts_(settings.layer_num_sample), remaining_(settings.RemainingLevels()), tree_(std::move(tree)) {
    const int64_t inner = tree_->levels() - 2;
    for (int64_t level = 1; level <= inner; ++level)
      weights_.push_back(LevelWeight(settings.probability_type, level, inner));
  }

  TreeNodes Sample(const SamplingRequest& request) const override {
    std::mt19937_64 random = request.Random();
    const std::vector<int64_t> inner = ChooseLevels(random);
    const int64_t rows = std::ssize(request.items), leaves = tree_->levels() - 1;
    int64_t negatives = counts_[leaves];
    for (const int64_t level : inner) negatives += counts_[level];
    TreeNodes result;
    result.ancestors = rows * std::ssize(inner);
    result.nodes.reserve(result.ancestors + rows * negatives);
    result.rows.reserve(result.nodes.capacity());
    const auto add = [&](int64_t node, int64_t row) {
      result.nodes.push_back(node);
      result.rows.push_back(static_cast<int32_t>(row));
    };
    std::vector<int64_t> own(rows);
    for (int64_t row = 0; row < rows; ++row) {
      own[row] = tree_->FindLeaf(request.items[row]);
      if (own[row] < 0) throw UnknownLeaf{row};
      for (const int64_t level : inner) add(tree_->AncestorsOf(own[row])[level - 1], row);
    }
    std::vector<int32_t> drawn;
    for (int64_t row = 0; row < rows; ++row) {
      const auto draw = [&](int64_t level, int64_t positive) {
        drawn.assign(1, static_cast<int32_t>(positive));
        for (uint32_t i = 0; i < counts_[level]; ++i) {
          drawn.push_back(Draw(tree_->level(level), drawn, random));
          add(drawn.back(), row);
        }
      };
      for (const int64_t level : inner) draw(level, tree_->AncestorsOf(own[row])[level - 1]);
      draw(leaves, own[row]);
    }
    return result;
  }

  const RowSlice& attributes() const override { return tree_->nodes().attributes(); }

 private:
  /// Those between root and leaves that a batch has, ascending.
  std::vector<int64_t> ChooseLevels(std::mt19937_64& random) const {
    std::vector<double> weights = weights_;
    std::vector<int64_t> levels;
    while (std::ssize(levels) < remaining_) {
      if (remaining_ == std::ssize(weights_)) {
        levels.push_back(std::ssize(levels) + 1);
        continue;
      }
      const size_t level = DrawByWeight(weights, random);
      weights[level] = 0;
      levels.push_back(static_cast<int64_t>(level) + 1);
    }
    std::sort(levels.begin(), levels.end());
    return levels;
  }

  /// A node of the level by weight, none of `taken`; there are more nodes than those.
  static int32_t Draw(const TreeTable::Level& level, const std::vector<int32_t>& taken, std::mt19937_64& random) {
    const auto is_taken = [&](int32_t node) { return std::find(taken.begin(), taken.end(), node) != taken.end(); };
    constexpr int kTries = 64;
    for (int i = 0; i < kTries; ++i) {
      const int32_t node = level.nodes[level.alias.Draw(random())];
      if (!is_taken(node)) return node;
    }
    // Those taken hold nearly all the weight: the others have to be looked at.
    std::vector<double> weights(level.weights.begin(), level.weights.end());
    for (size_t i = 0; i < weights.size(); ++i) {
      if (is_taken(level.nodes[i])) weights[i] = 0;
    }
    return level.nodes[DrawByWeight(weights, random)];
  }

  std::vector<uint32_t> counts_;
  int64_t remaining_;
  std::shared_ptr<const TreeTable> tree_;
  std::vector<double> weights_;  ///< of the levels from 1 on, to be one that a batch has
};

}  // namespace

std::shared_ptr<const TreeSampler> TreeSampler::Make(const tzrec::protos::DataConfig& config,
                                                     const arrow::Schema& input, const Warn& warn) {
  const auto fail = [](const std::string& path, const std::string& message) {
    throw ConfigError(path + ": " + message);
  };
  config::CheckTreeSampler(config, fail);
  config::CheckSamplerFiles(config, fail);
  const TreeSamplerSettings settings = config::TreeSamplerOf(config).value();
  const std::string key = TablesKey(config.ShortDebugString(), settings.Tables(), settings.attr_fields, input);
  const auto tree = SharedTables<TreeTable>(key, [&] {
    // Levels are numbers, whatever the data has in a column of that name.
    arrow::FieldVector fields = {arrow::field(config::kTreeLevel, arrow::int64())};
    for (const auto& field : input.fields()) {
      if (field->name() != config::kTreeLevel) fields.push_back(field);
    }
    AttributeColumns attributes(settings.attr_fields, settings.attr_delimiter, *arrow::schema(fields));
    attributes.TellOfUnread(settings.field, warn);
    return std::make_shared<const TreeTable>(settings, attributes);
  });
  return std::make_shared<TableTreeSampler>(settings, tree);
}

TreeSampler::Maker& TreeSampler::MakerOfStreams() {
  static Maker maker = Make;
  return maker;
}

}  // namespace anneal::data
