#include <array>

#include "worker/config/feature_kinds.h"
#include "worker/features/derived/kinds.h"
#include "worker/features/number_text.h"

namespace anneal::features {
namespace {

using tzrec::protos::MatchFeature;

constexpr char kOuterKeyEnd = '^';
constexpr char kOuterSeparator = '|';
constexpr std::string_view kInnerSeparator = ",";

/// parity/features.md 4.11: values of a map of maps, by the keys that two inputs name, or by all keys. Inputs:
/// nested_map, then pkey and skey unless they are ALL.
class Match : public Derivation {
 public:
  Match(const MatchFeature& config, const Feature& feature, Inputs inputs, std::shared_ptr<arrow::DataType> value)
      : Derivation(feature, Separated(std::move(inputs)), std::move(value)),
        all_outer_(config.pkey() == config::kAllKeys),
        all_inner_(config.skey() == config::kAllKeys) {
    CheckPairs(inputs_[0]);
    for (size_t i = 1; i < inputs_.size(); ++i) CheckTexts(inputs_[i]);
  }

 protected:
  /// For every cell calls hit(outer key, inner key, value) with the hits, those of a pkey side by side, until one
  /// returns false, and then end().
  template <typename Column, typename Hit, typename End>
  void EachHit(const DerivationRows& rows, Column& out, Hit&& hit, End&& end) const {
    PairOptions options;
    options.text_items = true;
    options.delimiter = kOuterKeyEnd;
    const PairInput outer = ReadPairs(inputs_[0], rows, options);
    std::vector<TextInput> keys;
    keys.reserve(2);
    std::vector<const Cells*> cells_of = {&outer};
    for (size_t i = 1; i < inputs_.size(); ++i) {
      cells_of.push_back(&keys.emplace_back(ReadTexts(inputs_[i], rows)));
    }
    EachCell(rows, cells_of, out, [&](const std::vector<int64_t>& cells) {
      const TextInput* wanted_outer = all_outer_ ? nullptr : &keys.front();
      const TextInput* wanted_inner = all_inner_ ? nullptr : &keys.back();
      bool more = true;
      EachKey(wanted_outer, cells[all_outer_ ? 0 : 1], [&](std::string_view outer_key) {
        const CellRange range = outer[cells[0]];
        for (int64_t at = range.begin; more && at < range.end; ++at) {
          if (wanted_outer && outer.keys[at] != outer_key) continue;
          EachKey(wanted_inner, cells.back(), [&](std::string_view inner_key) {
            more = more && EachInner(outer.items[at], wanted_inner ? &inner_key : nullptr,
                                     [&](std::string_view key, std::string_view value) {
                                       return hit(outer.keys[at], key, value);
                                     });
          });
        }
      });
      end();
    });
  }

 private:
  static Inputs Separated(Inputs inputs) {
    inputs[0].separator = std::string(1, kOuterSeparator);
    return inputs;
  }

  /// Calls use(key) for every key wanted, or once where all are.
  template <typename Use>
  static void EachKey(const TextInput* wanted, int64_t cell, Use&& use) {
    if (wanted == nullptr) return use(std::string_view());
    const CellRange range = (*wanted)[cell];
    for (int64_t at = range.begin; at < range.end; ++at) use(wanted->texts[at]);
  }

  /// Of an inner map "sk:v,sk:v". False when `use` asked for no more.
  template <typename Use>
  static bool EachInner(std::string_view map, const std::string_view* wanted, Use&& use) {
    bool more = true;
    if (map.empty()) return true;
    SplitText(map, kInnerSeparator, [&](std::string_view pair) {
      if (pair.empty()) return true;
      const size_t colon = pair.find(':');
      if (colon == std::string_view::npos) throw Refusal{Shown(pair) + " is not key:value"};
      const std::string_view key = pair.substr(0, colon);
      if (!wanted || key == *wanted) more = use(key, pair.substr(colon + 1));
      return more;
    });
    return more;
  }

  const bool all_outer_, all_inner_;
};

/// Values as ids: as texts, with show_pkey and show_skey their keys before them, and the feature's name before all
/// that is hashed.
class MatchIds : public Match {
 public:
  MatchIds(const MatchFeature& config, const Feature& feature, Inputs inputs)
      : Match(config, feature, std::move(inputs), arrow::utf8()),
        prefix_(config.has_hash_bucket_size() ? feature.name + '_' : std::string()),
        show_outer_(config.show_pkey()),
        show_inner_(config.show_skey()) {}

  std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const override {
    TextColumn out(sequence_);
    int64_t kept = 0;
    EachHit(
        rows, out,
        [&](std::string_view outer, std::string_view inner, std::string_view value) {
          out.Write(prefix_);
          if (show_outer_) WriteKey(outer, out);
          if (show_inner_) WriteKey(inner, out);
          out.Put(value);
          return ++kept < most_;
        },
        [&] { kept = 0; });
    return out.Finish();
  }

 private:
  static void WriteKey(std::string_view key, TextColumn& out) {
    out.Write(key);
    out.Write("_");
  }

  const std::string prefix_;
  const bool show_outer_, show_inner_;
};

/// The first hit's value as a number.
class MatchNumber : public Match {
 public:
  MatchNumber(const MatchFeature& config, const Feature& feature, Inputs inputs)
      : Match(config, feature, std::move(inputs), arrow::float32()) {}

  std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const override {
    NumberColumn<float> out(sequence_);
    EachHit(
        rows, out,
        [&](std::string_view, std::string_view, std::string_view value) {
          out.Put(static_cast<float>(ParseDouble(value)));
          return false;
        },
        [] {});
    return out.Finish();
  }
};

}  // namespace

std::unique_ptr<Derivation> MakeDerivation(const MatchFeature& config, const Feature& feature, Inputs inputs) {
  if (config::IsDiscrete(config)) return std::make_unique<MatchIds>(config, feature, std::move(inputs));
  return std::make_unique<MatchNumber>(config, feature, std::move(inputs));
}

}  // namespace anneal::features
