#include <array>

#include "worker/features/derived/key_values.h"
#include "worker/features/derived/kinds.h"

namespace anneal::features {
namespace {

/// parity/features.md 4.15: the dot product of two inputs, query and document, each keys with weights; a key alone
/// weighs 1. Where one of them is missing, so is the product.
class KvDotProduct : public Derivation {
 public:
  KvDotProduct(const Feature& feature, Inputs inputs) : Derivation(feature, std::move(inputs), arrow::float32()) {
    for (const InputColumn& input : inputs_) CheckPairs(input);
  }

  std::shared_ptr<arrow::ArrayData> Run(const DerivationRows& rows) const override {
    PairOptions options;
    options.default_item = "1";
    const PairInput query = ReadPairs(inputs_[0], rows, options), document = ReadPairs(inputs_[1], rows, options);
    const std::array<const Cells*, 2> cells_of = {&query, &document};
    std::vector<KeyValue> of_query, of_document;
    int64_t sorted = -1;  // the query's cell that `of_query` is of
    NumberColumn<float> out(sequence_);
    EachCell(rows, cells_of, out, [&](const std::vector<int64_t>& cells) {
      if (query[cells[0]].size() == 0 || document[cells[1]].size() == 0) return;
      if (cells[0] != sorted) Take(query, query[cells[0]], of_query);
      sorted = cells[0];
      Take(document, document[cells[1]], of_document);
      out.Put(static_cast<float>(DotProduct(of_query, of_document)));
    });
    return out.Finish();
  }

 private:
  static void Take(const PairInput& pairs, CellRange range, std::vector<KeyValue>& out) {
    out.clear();
    for (int64_t at = range.begin; at < range.end; ++at) out.push_back({pairs.keys[at], pairs.Number(at), at});
  }
};

}  // namespace

std::unique_ptr<Derivation> MakeDerivation(const tzrec::protos::KvDotProduct&, const Feature& feature, Inputs inputs) {
  return std::make_unique<KvDotProduct>(feature, std::move(inputs));
}

}  // namespace anneal::features
