#include "worker/features/derived/kinds.h"

namespace anneal::features {
namespace {

/// parity/features.md 4.8: the product of all inputs' values, the first input's outermost, joined by "_".
class Combo : public Derivation {
 public:
  Combo(const Feature& feature, Inputs inputs) : Derivation(feature, std::move(inputs), arrow::utf8()) {
    for (const InputColumn& input : inputs_) CheckTexts(input);
  }

  std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const override {
    std::vector<TextInput> values;
    values.reserve(inputs_.size());
    std::vector<const Cells*> cells_of;
    for (const InputColumn& input : inputs_) cells_of.push_back(&values.emplace_back(ReadTexts(input, rows)));
    std::vector<CellRange> ranges(values.size());
    std::vector<int64_t> at(values.size());
    TextColumn out(sequence_);
    EachCell(rows, cells_of, out, [&](const std::vector<int64_t>& cells) {
      int64_t combinations = 1;
      for (size_t i = 0; i < values.size(); ++i) {
        ranges[i] = values[i][cells[i]];
        at[i] = ranges[i].begin;
        combinations = std::min(combinations * ranges[i].size(), kMost + 1);
      }
      combinations = std::min(combinations, most_);
      if (combinations > kMost) throw Refusal{"makes more than " + std::to_string(kMost) + " combinations"};
      for (int64_t n = 0; n < combinations; ++n) {
        for (size_t i = 0; i < values.size(); ++i) {
          if (i > 0) out.Write("_");
          out.Write(values[i].texts[at[i]]);
        }
        out.EndValue();
        for (size_t i = values.size(); i-- > 0 && ++at[i] == ranges[i].end;) at[i] = ranges[i].begin;
      }
    });
    return out.Finish();
  }

 private:
  static constexpr int64_t kMost = 1 << 24;
};

}  // namespace

std::unique_ptr<Derivation> MakeDerivation(const tzrec::protos::ComboFeature&, const Feature& feature, Inputs inputs) {
  return std::make_unique<Combo>(feature, std::move(inputs));
}

}  // namespace anneal::features
