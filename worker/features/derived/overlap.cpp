#include <array>

#include "worker/config/error.h"
#include "worker/features/derived/kinds.h"
#include "worker/features/formulas/overlap_method.h"

namespace anneal::features {
namespace {

using tzrec::protos::OverlapFeature;

/// parity/features.md 4.13: a number of the words of two inputs, query and title. Where one of them is missing, so is
/// the number.
class Overlap : public Derivation {
 public:
  Overlap(OverlapMethod method, const Feature& feature, Inputs inputs)
      : Derivation(feature, std::move(inputs), arrow::float32()), method_(method) {
    for (const InputColumn& input : inputs_) CheckTexts(input);
  }

  std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const override {
    const TextInput query = ReadTexts(inputs_[0], rows), title = ReadTexts(inputs_[1], rows);
    const std::array<const Cells*, 2> cells_of = {&query, &title};
    const auto words = [](const TextInput& input, int64_t cell) {
      const CellRange range = input[cell];
      return OverlapMethod::Words(input.texts.data() + range.begin, range.size());
    };
    OverlapMethod::Scratch scratch;
    NumberColumn<float> out(sequence_);
    EachCell(rows, cells_of, out, [&](const std::vector<int64_t>& cells) {
      const auto of_query = words(query, cells[0]), of_title = words(title, cells[1]);
      if (of_query.empty() || of_title.empty()) return;
      out.Put(static_cast<float>(method_(of_query, of_title, scratch)));
    });
    return out.Finish();
  }

 private:
  const OverlapMethod method_;
};

}  // namespace

std::unique_ptr<Derivation> MakeDerivation(const OverlapFeature& config, const Feature& feature, Inputs inputs) {
  const auto method = OverlapMethod::FromName(config.method());
  if (!method) {
    throw ConfigError("feature " + feature.name + ": method " + Shown(config.method()) + " is not one of " +
                      OverlapMethod::Names());
  }
  return std::make_unique<Overlap>(*method, feature, std::move(inputs));
}

}  // namespace anneal::features
