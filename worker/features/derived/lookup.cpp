#include <array>

#include "worker/config/feature_kinds.h"
#include "worker/features/derived/combiner.h"
#include "worker/features/derived/key_index.h"
#include "worker/features/derived/kinds.h"
#include "worker/features/number_text.h"

namespace anneal::features {
namespace {

using tzrec::protos::LookupFeature;

/// parity/features.md 4.10: the items of a map whose keys another input names. Inputs: map, key.
class Lookup : public Derivation {
 public:
  Lookup(const Feature& feature, Inputs inputs, std::shared_ptr<arrow::DataType> value)
      : Derivation(feature, std::move(inputs), std::move(value)) {
    CheckPairs(inputs_[0]);
    CheckTexts(inputs_[1]);
  }

 protected:
  /// For every cell calls hit(pairs, position) with the key's hits, in the keys' order, until one returns false, and
  /// then end().
  template <typename Column, typename Hit, typename End>
  void EachHit(const DerivationRows& rows, const PairOptions& options, Column& out, Hit&& hit, End&& end) const {
    const PairInput pairs = ReadPairs(inputs_[0], rows, options);
    const TextInput keys = ReadTexts(inputs_[1], rows);
    KeyIndex index;
    int64_t indexed = -1;
    const std::array<const Cells*, 2> cells_of = {&pairs, &keys};
    EachCell(rows, cells_of, out, [&](const std::vector<int64_t>& cells) {
      if (cells[0] != indexed) index.Use(pairs.keys, pairs[cells[0]]);
      indexed = cells[0];
      const CellRange range = keys[cells[1]];
      for (int64_t at = range.begin; at < range.end; ++at) {
        const int64_t pair = index.Find(keys.texts[at]);
        if (pair >= 0 && !hit(pairs, pair)) break;
      }
      end();
    });
  }
};

/// Items as ids: as texts, with need_key "key_item".
class LookupIds : public Lookup {
 public:
  LookupIds(const LookupFeature& config, const Feature& feature, Inputs inputs)
      : Lookup(feature, std::move(inputs), arrow::utf8()), need_key_(config.need_key()) {}

  std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const override {
    TextColumn out(sequence_);
    PairOptions options;
    options.text_items = true;
    int64_t kept = 0;
    EachHit(
        rows, options, out,
        [&](const PairInput& pairs, int64_t pair) {
          if (need_key_) {
            out.Write(pairs.keys[pair]);
            out.Write("_");
          }
          out.Put(pairs.items[pair]);
          return ++kept < most_;
        },
        [&] { kept = 0; });
    return out.Finish();
  }

 private:
  const bool need_key_;
};

/// Items as one number.
class LookupNumber : public Lookup {
 public:
  LookupNumber(const LookupFeature& config, const Feature& feature, Inputs inputs)
      : Lookup(feature, std::move(inputs), arrow::float32()),
        combiner_(ParseCombiner(config.combiner(), feature.name)) {}

  std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const override {
    NumberColumn<float> out(sequence_);
    Combined combined(combiner_);
    EachHit(
        rows, {}, out,
        [&](const PairInput& pairs, int64_t pair) {
          combined.Put(pairs.Number(pair));
          return true;
        },
        [&] {
          if (combined.count() > 0) out.Put(static_cast<float>(combined.value()));
          combined.Clear();
        });
    return out.Finish();
  }

 private:
  const Combiner combiner_;
};

/// Items as numbers, all of them.
class LookupNumbers : public Lookup {
 public:
  LookupNumbers(const Feature& feature, Inputs inputs) : Lookup(feature, std::move(inputs), arrow::float32()) {}

  std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const override {
    NumberColumn<float> out(sequence_);
    EachHit(
        rows, {}, out,
        [&](const PairInput& pairs, int64_t pair) {
          out.Put(static_cast<float>(pairs.Number(pair)));
          return true;
        },
        [] {});
    return out.Finish();
  }
};

/// The first hit's item as a vector, its numbers between value_separator.
class LookupVector : public Lookup {
 public:
  LookupVector(const LookupFeature& config, const Feature& feature, Inputs inputs)
      : Lookup(feature, std::move(inputs), arrow::float32()), separator_(config.value_separator()) {}

  std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const override {
    NumberColumn<float> out(sequence_);
    PairOptions options;
    options.text_items = true;
    EachHit(
        rows, options, out,
        [&](const PairInput& pairs, int64_t pair) {
          if (pairs.items[pair].empty()) return false;
          SplitText(pairs.items[pair], separator_, [&](std::string_view part) {
            out.Put(static_cast<float>(ParseDouble(part)));
            return true;
          });
          return false;
        },
        [] {});
    return out.Finish();
  }

 private:
  const std::string separator_;
};

}  // namespace

std::unique_ptr<Derivation> MakeDerivation(const LookupFeature& config, const Feature& feature, Inputs inputs) {
  if (config::IsDiscrete(config)) return std::make_unique<LookupIds>(config, feature, std::move(inputs));
  if (config.value_dim() > 1) return std::make_unique<LookupVector>(config, feature, std::move(inputs));
  if (config.combiner().empty()) return std::make_unique<LookupNumbers>(feature, std::move(inputs));
  return std::make_unique<LookupNumber>(config, feature, std::move(inputs));
}

}  // namespace anneal::features
