#include <deque>

#include "worker/config/feature_kinds.h"
#include "worker/features/derived/key_index.h"
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
  /// returns false, and then end(). Of equal keys of a map the first counts, where keys are named.
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
    OuterMap map(outer);
    EachCell(rows, cells_of, out, [&](const std::vector<int64_t>& cells) {
      map.Use(cells[0]);
      const auto each_inner = [&](int64_t at) {
        InnerMap& inner = map.Inner(at);
        if (!all_inner_) {
          const TextInput& wanted = keys.back();
          const CellRange range = wanted[cells.back()];
          for (int64_t key = range.begin; key < range.end; ++key) {
            const int64_t pair = inner.index.Find(wanted.texts[key]);
            if (pair >= 0 && !hit(outer.keys[at], inner.keys[pair], inner.values[pair])) return false;
          }
          return true;
        }
        for (size_t pair = 0; pair < inner.keys.size(); ++pair) {
          if (!hit(outer.keys[at], inner.keys[pair], inner.values[pair])) return false;
        }
        return true;
      };
      if (!all_outer_) {
        const TextInput& wanted = keys.front();
        const CellRange range = wanted[cells[1]];
        for (int64_t key = range.begin; key < range.end; ++key) {
          const int64_t at = map.Find(wanted.texts[key]);
          if (at >= 0 && !each_inner(at)) break;
        }
      } else {
        const CellRange range = outer[cells[0]];
        for (int64_t at = range.begin; at < range.end && each_inner(at); ++at) {
        }
      }
      end();
    });
  }

 private:
  /// "sk:v,sk:v"
  struct InnerMap {
    std::vector<std::string_view> keys, values;
    KeyIndex index;

    void Read(std::string_view map) {
      keys.clear();
      values.clear();
      SplitText(map, kInnerSeparator, [this](std::string_view pair) {
        if (pair.empty()) return true;
        const size_t colon = pair.find(':');
        if (colon == std::string_view::npos) throw Refusal{Shown(pair) + " is not key:value"};
        keys.push_back(pair.substr(0, colon));
        values.push_back(pair.substr(colon + 1));
        return true;
      });
      index.Use(keys, {0, static_cast<int64_t>(keys.size())});
    }
  };

  /// A cell's map, whose inner maps are read when they are asked for and kept while elements use the cell.
  class OuterMap {
   public:
    explicit OuterMap(const PairInput& pairs) : pairs_(pairs) {}

    void Use(int64_t cell) {
      if (cell == cell_) return;
      cell_ = cell;
      range_ = pairs_[cell];
      index_.Use(pairs_.keys, range_);
      read_.assign(range_.size(), -1);
      used_ = 0;
    }
    int64_t Find(std::string_view key) { return index_.Find(key); }
    InnerMap& Inner(int64_t at) {
      int32_t& read = read_[at - range_.begin];
      if (read < 0) {
        if (used_ == inner_.size()) inner_.emplace_back();
        inner_[used_].Read(pairs_.items[at]);
        read = static_cast<int32_t>(used_++);
      }
      return inner_[read];
    }

   private:
    const PairInput& pairs_;
    int64_t cell_ = -1;
    CellRange range_;
    KeyIndex index_;
    std::vector<int32_t> read_;  ///< of the range's maps: where in `inner_`; -1: not yet
    std::deque<InnerMap> inner_;
    size_t used_ = 0;
  };

  static Inputs Separated(Inputs inputs) {
    inputs[0].separator = std::string(1, kOuterSeparator);
    return inputs;
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
