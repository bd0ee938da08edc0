// The configured features as facts: what each reads, which table it looks up, how wide it is.
// Made once from pipeline.config; models, embeddings, readers and exports all read features from here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "tzrec/pipeline.pb.h"

namespace anneal::features {

enum class Kind { kId, kRaw };  // grows: combo, lookup, match, ...
enum class Pooling { kSum, kMean };

/// One configured feature (parity/features.md 1).
struct Feature {
  std::string name;  ///< key of every tensor made from it; "<sequence_name>__<feature_name>" in a sequence_feature
  Kind kind = Kind::kId;
  bool sparse = true;               ///< ids into a table, or dense floats
  std::vector<std::string> inputs;  ///< columns read: [name] in FG_NONE and FG_BUCKETIZE, the expression's column
                                    ///< otherwise ("<sequence_name>__" before it in a sequence_feature), none for a
                                    ///< `const:` literal in FG_DAG
  std::string side;                 ///< user | item | context | feature | const; empty in FG_NONE without expression
  int64_t value_dim = 1;            ///< dense: columns; sparse: ids kept per row, 0 = all
  bool weighted = false;            ///< ids carry weights
  bool sequence = false;            ///< a row holds a list of elements, each of `value_dim` numbers or one id
  std::string sequence_name;        ///< of the sequence_feature that it belongs to; empty when it stands alone
  std::string sequence_delim;       ///< between the elements of a sequence in one string
  int64_t sequence_length = 0;      ///< elements kept by feature generation, 0: all

  // Sparse only.
  std::string table;           ///< `embedding_name` or "<name>_emb"
  int64_t num_embeddings = 0;  ///< rows of the table
  int64_t embedding_dim = 0;
  Pooling pooling = Pooling::kSum;
  std::string init_fn;  ///< text of the config; empty = uniform(-sqrt(1/rows), sqrt(1/rows))
  bool trainable = true;
  std::string data_type = "FP32";  ///< FP32 | FP16, what the config asks for

  /// Width of the feature in a DEEP group, or of an element: embedding_dim when sparse, value_dim when dense.
  int64_t output_dim() const { return sparse ? embedding_dim : value_dim; }
  /// Tiled over the items of a request: every feature of a sequence_feature is, whatever its side.
  bool user_side() const { return side == "user" || !sequence_name.empty(); }

  int index = 0;             ///< position in FeatureSet::sparse(), dense() or dense_sequences()
  int64_t dense_column = 0;  ///< dense only: first column in Batch::dense
  int config_index = 0;      ///< position in feature_configs
  int member_index = 0;      ///< position in sequence_feature.features, where it belongs to one
};

/// All features of a config, stub features left out. Throws ConfigError naming the feature for anything unknown,
/// contradictory or not supported yet.
class FeatureSet {
 public:
  static FeatureSet FromConfig(const tzrec::protos::EasyRecConfig& config);

  const std::vector<Feature>& all() const { return all_; }               ///< in config order
  const std::vector<const Feature*>& sparse() const { return sparse_; }  ///< feature index of Batch::sparse
  const std::vector<const Feature*>& dense() const { return dense_; }    ///< without dense sequences
  const std::vector<const Feature*>& dense_sequences() const { return dense_sequences_; }
  const Feature* Find(const std::string& name) const;  ///< null when there is none
  int64_t dense_width() const { return dense_width_; }
  bool weighted() const { return weighted_; }  ///< any feature weighted: then every one carries weights (1)
  tzrec::protos::FgMode fg_mode() const { return fg_mode_; }
  /// Columns that the feature program reads, each once, in config order.
  const std::vector<std::string>& input_columns() const { return input_columns_; }

  FeatureSet(const FeatureSet&) = delete;
  FeatureSet& operator=(const FeatureSet&) = delete;
  FeatureSet(FeatureSet&&) = default;
  FeatureSet& operator=(FeatureSet&&) = default;

 private:
  FeatureSet() = default;

  std::vector<Feature> all_;  // never resized after construction: sparse_ and dense_ point into it
  std::vector<const Feature*> sparse_, dense_, dense_sequences_;
  std::unordered_map<std::string, const Feature*> by_name_;
  std::vector<std::string> input_columns_;
  int64_t dense_width_ = 0;
  bool weighted_ = false;
  tzrec::protos::FgMode fg_mode_ = tzrec::protos::FG_NONE;
};

}  // namespace anneal::features
