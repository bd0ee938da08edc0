// Which tables a model looks up and how pooled embeddings and dense features form its feature groups.
// Pure description, no tensors: made from model_config.feature_groups and the FeatureSet (parity/models.md 2).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tzrec/pipeline.pb.h"
#include "worker/features/feature_set.h"

namespace anneal::models {

/// An embedding table of the model. Features with the same table name share it.
struct Table {
  std::string name;  ///< "<feature>_emb", "<feature>_emb_wide", ...
  int64_t rows = 0;
  int64_t dim = 0;
  std::string init_fn;  ///< empty: uniform(-sqrt(1/rows), sqrt(1/rows))
  bool trainable = true;
  features::Pooling pooling = features::Pooling::kSum;
  tzrec::protos::ParameterConstraints constraints;  ///< of its features; empty when unset

  /// "model.embedding_group.emb_impls.__BASE__.ebc.embedding_bags.<name>.weight"
  std::string state_name() const;
};

/// The module path under which the plan file lists the tables.
inline constexpr const char* kTablesPath = "model.embedding_group.emb_impls.__BASE__.ebc";

/// One feature looking up one table: columns [column, column + dim) of the pooled matrix [B, pooled_width].
struct Lookup {
  int feature = 0;  ///< index in FeatureSet::sparse()
  int table = 0;    ///< index in EmbeddingPlan::tables
  int64_t column = 0;
  int64_t dim = 0;
};

/// A run of columns of a group, copied from the pooled matrix or from the dense matrix.
struct Block {
  bool pooled = true;
  int64_t column = 0;
  int64_t width = 0;
};

struct Group {
  std::string name;
  tzrec::protos::FeatureGroupType type = tzrec::protos::DEEP;
  std::vector<std::string> features;  ///< in config order
  std::vector<int64_t> feature_dims;  ///< width of each feature
  std::vector<Block> blocks;          ///< adjacent source columns merged
  int64_t width = 0;
};

struct EmbeddingPlan {
  std::vector<Table> tables;
  std::vector<Lookup> lookups;
  std::vector<Group> groups;
  int64_t pooled_width = 0;
  int64_t dense_width = 0;
  bool weighted = false;  ///< ids of every lookup carry weights

  const Group* FindGroup(const std::string& name) const;  ///< null when there is none
};

/// Throws ConfigError naming group and feature: unknown feature, dense feature in a WIDE group, tables that cannot be
/// shared, feature groups of a kind that is not supported.
EmbeddingPlan PlanEmbeddings(const tzrec::protos::ModelConfig& model, const features::FeatureSet& features,
                             const tzrec::protos::EasyRecConfig& config);

}  // namespace anneal::models
