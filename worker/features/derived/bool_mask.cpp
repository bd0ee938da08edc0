#include <array>

#include "worker/features/derived/kinds.h"

namespace anneal::features {
namespace {

bool IsTrue(std::string_view text) {
  for (const char* yes : {"1", "true", "True", "TRUE"}) {
    if (text == yes) return true;
  }
  for (const char* no : {"0", "false", "False", "FALSE"}) {
    if (text == no) return false;
  }
  throw Refusal{"has a mask of " + Shown(text) + ", which is neither true, false, 1 nor 0"};
}

/// parity/features.md 4.16: the values whose place in the mask is true; of a sequence the elements. Inputs: values,
/// mask.
class BoolMask : public Derivation {
 public:
  BoolMask(const Feature& feature, Inputs inputs) : Derivation(feature, std::move(inputs), arrow::utf8()) {
    for (const InputColumn& input : inputs_) CheckTexts(input);
  }

  std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const override {
    // Places count, so that an empty value keeps its own.
    const ValueOptions places{!sequence_};
    const TextInput values = ReadTexts(inputs_[0], rows, places), mask = ReadTexts(inputs_[1], rows, places);
    TextColumn out(sequence_);
    const std::array<const Cells*, 2> cells_of = {&values, &mask};
    EachCell(rows, cells_of, out, [&](const std::vector<int64_t>& cells) {
      const CellRange range = values[cells[0]], masked = mask[cells[1]];
      if (sequence_) {
        if (masked.size() != 1) throw Refusal{"has an element whose mask has " + Count(masked)};
        if (!IsTrue(mask.texts[masked.begin])) return false;
        for (int64_t at = range.begin; at < range.end; ++at) out.Put(values.texts[at]);
        return true;
      }
      if (range.size() == 0 || masked.size() == 0) return true;
      if (range.size() != masked.size()) throw Refusal{"has " + Count(range) + ", its mask " + Count(masked)};
      for (int64_t i = 0; i < range.size(); ++i) {
        const std::string_view text = values.texts[range.begin + i];
        if (IsTrue(mask.texts[masked.begin + i]) && !text.empty()) out.Put(text);
      }
      return true;
    });
    return out.Finish();
  }

 private:
  static std::string Count(CellRange range) { return std::to_string(range.size()) + " values"; }
};

}  // namespace

std::unique_ptr<Derivation> MakeDerivation(const tzrec::protos::BoolMaskFeature&, const Feature& feature,
                                           Inputs inputs) {
  return std::make_unique<BoolMask>(feature, std::move(inputs));
}

}  // namespace anneal::features
