#include "worker/features/derived/derivation.h"

namespace anneal::features {

int64_t Derivation::Elements(std::span<const Cells* const> inputs, int64_t row) const {
  int64_t elements = -1, of = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i]->sequence()) continue;
    const int64_t own = inputs[i]->Elements(row);
    if (own == 0) return 0;
    if (elements >= 0 && own != elements) {
      throw Refusal{"has a sequence of " + std::to_string(own) + " elements in column " + inputs_[i].name +
                    ", in column " + inputs_[of].name + " of " + std::to_string(elements)};
    }
    elements = own;
    of = static_cast<int64_t>(i);
  }
  return elements;
}

}  // namespace anneal::features
