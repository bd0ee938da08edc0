#include "worker/embedding/id_numbers.h"

#include <algorithm>
#include <limits>

#include "worker/embedding/slot_map.h"
#include "worker/nn/arithmetic.h"
#include "worker/nn/parallel.h"

namespace anneal::embedding {
namespace {

models::RepeatedIds::OfFeature NumberRows(const int64_t* values, const int64_t* offsets, int64_t rows) {
  models::RepeatedIds::OfFeature feature;
  feature.of_row.resize(rows);
  std::vector<int64_t> ids;  // by number, anything for rows without one or with several
  SlotMap numbers;
  numbers.Clear(rows, 0, std::numeric_limits<int64_t>::max());
  uint32_t of_no_id = 0;
  for (int64_t b = 0; b < rows; ++b) {
    const int64_t count = offsets[b + 1] - offsets[b], id = count == 1 ? values[offsets[b]] : 0;
    uint32_t of_several = 0;
    uint32_t& number = count == 0 ? of_no_id : count > 1 ? of_several : numbers.Find(id, ids);
    if (number == 0) {
      ids.push_back(id);
      feature.holder.push_back(static_cast<int32_t>(b));
      number = static_cast<uint32_t>(ids.size());
    }
    feature.of_row[b] = static_cast<int32_t>(number - 1);
  }
  return feature;
}

}  // namespace

std::shared_ptr<const models::RepeatedIds> NumberIds(const models::EmbeddingPlan& plan, const data::Batch& batch) {
  if (!nn::Arithmetic::OfProcess().computes_repeated() || !batch.sparse.weights.empty()) return nullptr;
  std::vector<int> wanted;
  for (const models::Lookup& lookup : plan.lookups) {
    if (!plan.tables[lookup.table].sequence) wanted.push_back(lookup.feature);
  }
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  auto found = std::make_shared<models::RepeatedIds>();
  if (!wanted.empty()) found->features.resize(wanted.back() + 1);
  at::parallel_for(0, static_cast<int64_t>(wanted.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      found->features[wanted[i]] =
          NumberRows(batch.sparse.values.data(), batch.sparse.offsets.data() + wanted[i] * batch.rows, batch.rows);
    }
  });
  return found;
}

}  // namespace anneal::embedding
