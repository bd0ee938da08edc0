#include <array>
#include <cmath>
#include <unordered_map>

#include "worker/features/derived/combiner.h"
#include "worker/features/derived/kinds.h"
#include "worker/features/formulas/normalizer.h"

namespace anneal::features {
namespace {

/// parity/features.md 4.9: the input's values as one number, by value_map where there is one (a word that it lacks
/// counts for nothing). With num_buckets its integer part, after the normalizer, is the id.
class Combine : public Derivation {
 public:
  Combine(const tzrec::protos::CombineFeature& config, const Feature& feature, Inputs inputs)
      : Derivation(feature, std::move(inputs), config.has_num_buckets() ? arrow::int64() : arrow::float32()),
        combiner_(ParseCombiner(config.combiner(), feature.name)),
        id_(config.has_num_buckets()) {
    if (id_) normalizer_ = Normalizer::FromText(config.normalizer(), feature.name);
    for (const auto& [word, number] : config.value_map()) numbers_[word] = number;
    if (numbers_.empty()) {
      CheckNumbers(inputs_[0]);
    } else {
      CheckTexts(inputs_[0]);
    }
  }

  std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const override {
    return id_ ? Derive<int64_t>(rows) : Derive<float>(rows);
  }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  template <typename Number>
  std::shared_ptr<arrow::ArrayData> Derive(const DerivationRows& rows) const {
    if (numbers_.empty()) {
      const NumberInput input = ReadNumbers(inputs_[0], rows);
      return Build<Number>(rows, input, [&](int64_t at, Combined& combined) { combined.Put(input.numbers[at]); });
    }
    const TextInput input = ReadTexts(inputs_[0], rows);
    return Build<Number>(rows, input, [&](int64_t at, Combined& combined) {
      const auto found = numbers_.find(input.texts[at]);
      if (found != numbers_.end()) combined.Put(found->second);
    });
  }

  template <typename Number, typename Put>
  std::shared_ptr<arrow::ArrayData> Build(const DerivationRows& rows, const Cells& input, Put&& put) const {
    NumberColumn<Number> out(sequence_);
    const std::array<const Cells*, 1> cells_of = {&input};
    EachCell(rows, cells_of, out, [&](const std::vector<int64_t>& cells) {
      Combined combined(combiner_);
      const CellRange range = input[cells[0]];
      for (int64_t at = range.begin; at < range.end; ++at) put(at, combined);
      if (combined.count() == 0) return;
      double value = combined.value();
      if constexpr (std::is_integral_v<Number>) {
        if (!normalizer_.identity()) value = normalizer_(static_cast<float>(value));
        constexpr double kMost = 9.2e18;  // what an int64 holds
        if (!(std::abs(value) < kMost)) throw Refusal{"makes " + std::to_string(value) + ", which is not an id"};
      }
      out.Put(static_cast<Number>(value));
    });
    return out.Finish();
  }

  const Combiner combiner_;
  const bool id_;
  Normalizer normalizer_;  ///< of what ids are made of; numbers have theirs where they are encoded
  std::unordered_map<std::string, double, Hash, std::equal_to<>> numbers_;
};

}  // namespace

std::unique_ptr<Derivation> MakeDerivation(const tzrec::protos::CombineFeature& config, const Feature& feature,
                                           Inputs inputs) {
  return std::make_unique<Combine>(config, feature, std::move(inputs));
}

}  // namespace anneal::features
