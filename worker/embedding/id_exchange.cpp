#include "worker/embedding/id_exchange.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "worker/dist/vector_tensor.h"

namespace anneal::embedding {

IdExchange::IdExchange(const models::EmbeddingPlan& plan, std::vector<std::vector<ServedLookup>> served, bool weighted,
                       dist::ProcessGroup& group)
    : plan_(plan), served_(std::move(served)), weighted_(weighted), group_(group) {}

void IdExchange::Run(const LookupInput& input, ExchangedIds& out) {
  out.rows = input.rows;
  out.rows_of_rank = group_.AllGather(input.rows);
  out.global_rows = std::accumulate(out.rows_of_rank.begin(), out.rows_of_rank.end(), int64_t{0});
  Pack(input);
  Swap(out);
  Unpack(out);
}

// Ids for every rank: lookup by lookup, row by row.
void IdExchange::Pack(const LookupInput& input) {
  sent_.lengths.clear();
  sent_.values.clear();
  sent_.weights.clear();
  sent_.length_splits.clear();
  sent_.value_splits.clear();
  for (const auto& of_rank : served_) {
    const size_t values_before = sent_.values.size();
    for (const ServedLookup& served : of_rank) {
      const Jagged& bags = input.lookups[served.lookup];
      const int64_t table_rows = plan_.tables[plan_.lookups[served.lookup].table].rows;
      const int64_t begin = served.shard.row_begin, end = begin + served.shard.rows;
      // An id outside the table goes to the first rows' shard, which takes row 0 for it; the first columns' counts it.
      const int64_t outside_id = served.shard.column_begin == 0 ? -1 : 0;
      for (int64_t b = 0; b < input.rows; ++b) {
        const size_t before = sent_.values.size();
        for (int64_t i = bags.offsets[b]; i < bags.offsets[b + 1]; ++i) {
          const int64_t id = bags.values[i];
          const bool outside = id < 0 || id >= table_rows;
          if (outside ? begin != 0 : (id < begin || id >= end)) continue;
          sent_.values.push_back(outside ? outside_id : id - begin);
          if (weighted_) sent_.weights.push_back(bags.weights[i]);
        }
        sent_.lengths.push_back(static_cast<int64_t>(sent_.values.size() - before));
      }
    }
    sent_.length_splits.push_back(static_cast<int64_t>(of_rank.size()) * input.rows);
    sent_.value_splits.push_back(static_cast<int64_t>(sent_.values.size() - values_before));
  }
}

// Lengths first, then as many values as they say.
void IdExchange::Swap(const ExchangedIds& out) {
  const int64_t mine = static_cast<int64_t>(served_[group_.rank()].size());
  received_.length_splits.clear();
  received_.value_splits.clear();
  for (const int64_t rows : out.rows_of_rank) received_.length_splits.push_back(mine * rows);
  received_.lengths.resize(mine * out.global_rows);
  group_.AllToAll(dist::AsTensor(received_.lengths), dist::AsTensor(sent_.lengths), received_.length_splits,
                  sent_.length_splits);
  auto length = received_.lengths.begin();
  for (const int64_t count : received_.length_splits) {
    received_.value_splits.push_back(std::accumulate(length, length + count, int64_t{0}));
    length += count;
  }
  const int64_t total = std::accumulate(received_.value_splits.begin(), received_.value_splits.end(), int64_t{0});
  received_.values.resize(total);
  group_.AllToAll(dist::AsTensor(received_.values), dist::AsTensor(sent_.values), received_.value_splits,
                  sent_.value_splits);
  if (!weighted_) return;
  received_.weights.resize(total);
  group_.AllToAll(dist::AsTensor(received_.weights), dist::AsTensor(sent_.weights), received_.value_splits,
                  sent_.value_splits);
}

// [rank][lookup][row] -> [lookup][rank][row]
void IdExchange::Unpack(ExchangedIds& out) {
  const int ranks = group_.world_size();
  const int64_t mine = static_cast<int64_t>(served_[group_.rank()].size());
  out.values.resize(received_.values.size());
  out.weights.resize(weighted_ ? received_.values.size() : 0);
  out.offsets.resize(mine * (out.global_rows + 1));
  std::vector<int64_t> value_at(ranks, 0), length_at(ranks, 0);
  for (int r = 1; r < ranks; ++r) {
    value_at[r] = value_at[r - 1] + received_.value_splits[r - 1];
    length_at[r] = length_at[r - 1] + received_.length_splits[r - 1];
  }
  int64_t written = 0;
  out.jagged.clear();
  for (int64_t l = 0; l < mine; ++l) {
    int64_t* offsets = out.offsets.data() + l * (out.global_rows + 1);
    *offsets = written;
    for (int r = 0; r < ranks; ++r) {
      const int64_t first = written;
      for (int64_t b = 0; b < out.rows_of_rank[r]; ++b) {
        written += received_.lengths[length_at[r]++];
        *++offsets = written;
      }
      std::copy_n(received_.values.begin() + value_at[r], written - first, out.values.begin() + first);
      if (weighted_) {
        std::copy_n(received_.weights.begin() + value_at[r], written - first, out.weights.begin() + first);
      }
      value_at[r] += written - first;
    }
    out.jagged.push_back(
        {out.values.data(), out.offsets.data() + l * (out.global_rows + 1), weighted_ ? out.weights.data() : nullptr});
  }
}

}  // namespace anneal::embedding
