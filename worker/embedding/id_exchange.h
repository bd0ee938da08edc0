// The way of a batch's ids to the ranks that hold their rows: the input all-to-all of sharded tables.
#pragma once

#include <vector>

#include "worker/dist/process_group.h"
#include "worker/embedding/lookup_input.h"
#include "worker/embedding/sharding_plan.h"
#include "worker/embedding/table_batch.h"
#include "worker/models/embedding_group.h"

namespace anneal::embedding {

/// A lookup of the plan as one rank serves it: from its shard of the lookup's table.
struct ServedLookup {
  int lookup = 0;  ///< of the plan
  TableShard shard;
  bool split_rows = false;  ///< other ranks hold other rows of the table
};

/// What a rank has to look up after the exchange, and for whom.
struct ExchangedIds {
  int64_t rows = 0;                   ///< of this rank's input
  std::vector<int64_t> rows_of_rank;  ///< of every rank's
  int64_t global_rows = 0;
  /// One per lookup that this rank serves, over the rows of all ranks: rank 0's first. Ids count from the shard's first
  /// row. They point into the vectors below.
  std::vector<Jagged> jagged;
  std::vector<int64_t> values, offsets;
  std::vector<float> weights;
};

class IdExchange {
 public:
  /// `served`: per rank the lookups that it serves, the same on all ranks. `weighted`: their ids carry weights.
  IdExchange(const models::EmbeddingPlan& plan, std::vector<std::vector<ServedLookup>> served, bool weighted,
             dist::ProcessGroup& group);

  /// A collective. An input of no rows takes part with nothing. Reuses what `out` has allocated.
  void Run(const LookupInput& input, ExchangedIds& out);

  const std::vector<std::vector<ServedLookup>>& served() const { return served_; }

 private:
  /// Lengths, ids and weights on their way, and how many of them go to each rank.
  struct Parcel {
    std::vector<int64_t> lengths, values, length_splits, value_splits;
    std::vector<float> weights;
  };
  void Pack(const LookupInput& input);
  void Swap(const ExchangedIds& out);
  void Unpack(ExchangedIds& out);

  const models::EmbeddingPlan& plan_;
  const std::vector<std::vector<ServedLookup>> served_;
  const bool weighted_;
  dist::ProcessGroup& group_;
  Parcel sent_, received_;
};

}  // namespace anneal::embedding
