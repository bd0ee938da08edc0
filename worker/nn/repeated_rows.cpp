#include "worker/nn/repeated_rows.h"

#include <ATen/Parallel.h>
#include <c10/core/TensorImpl.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "worker/nn/parallel.h"

namespace anneal::nn {
namespace {

struct Knowledge : c10::BackendMeta {
  std::function<RepeatedRows()> find;
  uint32_t version = 0;  ///< of the numbers that it is about
  std::optional<RepeatedRows> rows;
};

}  // namespace

RepeatedRows JoinColumns(std::vector<RepeatedColumns> columns, int64_t rows) {
  std::sort(columns.begin(), columns.end(), [](const auto& a, const auto& b) { return a.column < b.column; });
  RepeatedRows joined;
  if (rows * static_cast<int64_t>(columns.size()) > std::numeric_limits<int32_t>::max() / 2) return joined;
  for (const RepeatedColumns& of : columns) {
    joined.parts.push_back({of.column, of.width, joined.distinct(), static_cast<int64_t>(of.holder->size())});
    joined.holder.insert(joined.holder.end(), of.holder->begin(), of.holder->end());
  }
  const auto parts = static_cast<int64_t>(columns.size());
  joined.of_row.resize(rows * parts);
  joined.holders.resize(rows * parts);
  joined.begin.assign(joined.distinct() + 1, static_cast<int32_t>(rows * parts));
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> next;
    for (int64_t p = begin; p < end; ++p) {
      const auto first = static_cast<int32_t>(joined.parts[p].first);
      const int32_t* of_row = columns[p].of_row->data();
      next.assign(joined.parts[p].distinct, 0);
      for (int64_t b = 0; b < rows; ++b) {
        joined.of_row[b * parts + p] = first + of_row[b];
        ++next[of_row[b]];
      }
      int32_t at = static_cast<int32_t>(p * rows);
      for (size_t d = 0; d < next.size(); ++d) {
        joined.begin[first + d] = at;
        at += std::exchange(next[d], at);
      }
      for (int64_t b = 0; b < rows; ++b) joined.holders[next[of_row[b]]++] = static_cast<int32_t>(b);
    }
  });
  return joined;
}

void SetRepeatedRows(const at::Tensor& tensor, std::function<RepeatedRows()> find) {
  auto knowledge = c10::make_intrusive<Knowledge>();
  knowledge->find = std::move(find);
  knowledge->version = tensor._version();
  tensor.unsafeGetTensorImpl()->set_backend_meta(std::move(knowledge));
}

const RepeatedRows* FindRepeatedRows(const at::Tensor& tensor) {
  auto* knowledge = dynamic_cast<Knowledge*>(tensor.unsafeGetTensorImpl()->get_backend_meta());
  if (!knowledge || knowledge->version != tensor._version()) return nullptr;
  if (!knowledge->rows) knowledge->rows = knowledge->find();
  return &*knowledge->rows;
}

}  // namespace anneal::nn
