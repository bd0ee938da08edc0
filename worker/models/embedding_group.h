// Which tables a model looks up and how embeddings and dense features form its feature groups and sequence groups.
// Pure description, no tensors: made from model_config.feature_groups and the FeatureSet (parity/models.md 2).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tzrec/pipeline.pb.h"
#include "worker/features/feature_set.h"

namespace anneal::models {

/// State name of the embedding group that a model has for all of its feature groups.
inline constexpr char kEmbeddingGroup[] = "model.embedding_group";

inline constexpr char kBaseGroup[] = "__BASE__";

/// An embedding table of the model. Features with the same table name share it.
struct Table {
  std::string name;  ///< "<feature>_emb", "<feature>_emb_wide", ...
  int64_t rows = 0;
  int64_t dim = 0;
  std::string init_fn;  ///< empty: uniform(-sqrt(1/rows), sqrt(1/rows))
  bool trainable = true;
  features::Pooling pooling = features::Pooling::kSum;
  tzrec::protos::ParameterConstraints constraints;  ///< of its features; empty when unset
  /// Of sequence groups. A table of the same name that others pool is another table.
  bool sequence = false;
  /// The embedding group that has it (EmbeddingModule). Tables of the same name in others are other tables.
  std::string module = kEmbeddingGroup;
  /// "__NEG__" where its features' rows are those of sampled items, too (parity/features.md 7); tables of both are
  /// different ones.
  std::string data_group = kBaseGroup;

  /// Where the plan file lists it: "<module>.emb_impls.<data_group>.ebc", of a sequence table
  /// "<module>.seq_emb_impls.<data_group>.ec_dict.<dim>".
  std::string module_path() const;
  /// "<module path>.embedding_bags.<name>.weight", of a sequence table "<module path>.embeddings.<name>.weight"
  std::string state_name() const;
  /// Its name; with the path of a table whose name another may have as well.
  std::string unique_name() const;
};

/// One feature looking up one table: columns [column, column + dim) of the pooled matrix [B, pooled_width], or, in a
/// sequence table, of the element matrix [E, element_width]. A sequence feature fills a row of that for each element
/// of the batch, one after the other, any other feature a row for each row of the batch; E is the most of any lookup,
/// and rows behind a lookup's last are zeros.
struct Lookup {
  int feature = 0;  ///< index in FeatureSet::sparse()
  int table = 0;    ///< index in EmbeddingPlan::tables
  int64_t column = 0;
  int64_t dim = 0;
  bool per_element = false;  ///< a sequence feature
  int64_t length = 1;        ///< elements of a row at the most, 0: unknown; 1 unless per_element
  features::Pooling pooling = features::Pooling::kSum;  ///< of the ids of a bag
  bool first_only = false;                              ///< of several ids of a row, in a sequence table, the first
};

/// Dense features of one setting that groups have as vectors (parity/models.md 3): columns [column + i * dim,
/// column + (i + 1) * dim) of the embedded matrix [B, embedded_width] are those of the i-th.
struct EmbeddedFeatures {
  features::DenseEmbedding setting;
  int64_t dim = 0, value_dim = 1;
  std::string state_name;  ///< "<module>.emb_impls.<data group>.dense_ec.dense_embs.<key>"
  std::vector<std::pair<std::string, int64_t>> features;  ///< by name in order, and their columns in the dense matrix
  int64_t column = 0;
};

/// A run of columns of a group, copied from one of the matrices.
struct Block {
  enum class Source { kPooled, kDense, kEmbedded };
  Source source = Source::kPooled;
  int64_t column = 0;
  int64_t width = 0;
};

/// Columns of a sequence group that come from one feature.
struct SequencePart {
  bool looked_up = true;  ///< columns of the element matrix; otherwise the feature's numbers
  int feature = 0;        ///< index in FeatureSet::sparse(), dense() or dense_sequences()
  int64_t column = 0;     ///< in the element matrix, or of a dense feature in the dense matrix
  int64_t width = 0;
};

/// A SEQUENCE or JAGGED_SEQUENCE group, or one of a DEEP group's sequence_groups (parity/models.md 2.1): features that
/// are no sequences form the query, the others the sequence. T is the largest length of the first sequence feature in
/// the batch; the others are padded or cut to it. Those of a jagged group are as long as each other.
struct SequenceGroup {
  std::string name;
  int64_t most = 0;                           ///< positions that anybody reads, 0: all; T is no more
  std::vector<SequencePart> query, sequence;  ///< in config order
  int64_t query_width = 0, sequence_width = 0;
  bool item_side = false;  ///< as Group's
  bool jagged = false;     ///< not padded
};

/// A sequence encoder of a DEEP group.
struct Encoder {
  tzrec::protos::SeqEncoderConfig config;
  int input = 0;  ///< index in EmbeddingPlan::sequence_groups
};

struct Group {
  std::string name;
  std::string module = kEmbeddingGroup;  ///< the embedding group that it is part of
  tzrec::protos::FeatureGroupType type = tzrec::protos::DEEP;
  std::vector<std::string> features;  ///< in config order, then "<group>_seq_encoder_<i>" for each encoder
  std::vector<int64_t> feature_dims;  ///< width of each of them
  std::vector<Block> blocks;          ///< of the features, adjacent source columns merged
  std::vector<Encoder> encoders;      ///< whose outputs follow the features
  int64_t width = 0;                  ///< of everything
  int64_t assembled_width = 0;        ///< of the features alone
  /// Its features are made of columns that a negative sampler has, too: rows of sampled items belong to it.
  bool item_side = false;
};

struct EmbeddingPlan {
  std::vector<Table> tables;
  std::vector<Lookup> lookups;
  std::vector<Group> groups;  ///< DEEP and WIDE
  std::vector<SequenceGroup> sequence_groups;
  std::vector<EmbeddedFeatures> embedded;
  int64_t pooled_width = 0;
  int64_t element_width = 0;
  int64_t dense_width = 0;
  int64_t embedded_width = 0;
  bool weighted = false;  ///< ids of every pooled lookup carry weights; those of sequence tables never do

  const Group* FindGroup(const std::string& name) const;                  ///< null when there is none
  const SequenceGroup* FindSequenceGroup(const std::string& name) const;  ///< likewise
};

/// Of a match model the groups of its towers (match_towers.h), each tower with an embedding group of its own; only
/// those of `tower`, unless it is empty. With kItemEmbedding SEQUENCE groups alone, without their sequences.
///
/// Throws ConfigError naming group and feature: unknown feature, dense feature in a WIDE group, tables that cannot be
/// shared, feature groups of a kind that is not supported.
EmbeddingPlan PlanEmbeddings(const tzrec::protos::ModelConfig& model, const features::FeatureSet& features,
                             const tzrec::protos::EasyRecConfig& config, const std::string& tower = "");

}  // namespace anneal::models
