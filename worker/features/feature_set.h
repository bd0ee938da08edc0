// The configured features as facts: what each reads, which table it looks up, how wide it is.
// Made once from pipeline.config; models, embeddings, readers and exports all read features from here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "tzrec/pipeline.pb.h"
#include "worker/config/feature_kinds.h"

namespace anneal::features {

/// As which of the two a feature's value is encoded, of whatever kind it is itself.
enum class Kind { kId, kRaw };
enum class Pooling { kSum, kMean };

/// What a feature reads, in the order of its kind's inputs.
using FeatureInput = config::Input;

/// How groups have a dense feature as a vector of embedding_dim numbers (parity/models.md 3).
struct DenseEmbedding {
  enum class Kind { kAutoDis, kMlp };
  Kind kind = Kind::kMlp;
  int64_t channels = 0;  ///< AutoDis only, as the next
  double keep_prob = 0, temperature = 1;
};

/// One configured feature (parity/features.md 1).
struct Feature {
  std::string name;  ///< key of every tensor made from it; "<sequence_name>__<feature_name>" in a sequence_feature
  std::string type;  ///< "combo_feature", of a sequence_combo_feature too
  Kind kind = Kind::kId;
  bool sparse = true;               ///< ids into a table, or dense floats
  std::vector<FeatureInput> sides;  ///< inputs as configured; empty in FG_NONE without expression
  std::vector<std::string> inputs;  ///< columns read: [name] in FG_NONE and FG_BUCKETIZE, those of `sides` otherwise;
                                    ///< in FG_DAG those of the features among them, and none for a `const:` literal
  bool of_user = false;             ///< all its inputs are on side user (in FG_DAG also those of the features among
                                    ///< them), or it is of a sequence_feature, whatever its inputs
  int64_t value_dim = 1;            ///< dense: columns; sparse: ids kept per row, 0 = all
  bool weighted = false;            ///< ids carry weights
  bool sequence = false;            ///< a row holds a list of elements, each of `value_dim` numbers or one id
  std::string sequence_name;        ///< of the sequence_feature that it belongs to; empty when it stands alone
  std::string sequence_delim;       ///< between the elements of a sequence in one string
  int64_t sequence_length = 0;      ///< elements kept by feature generation, 0: all

  std::optional<DenseEmbedding> dense_embedding;  ///< dense only; without one groups have the numbers themselves

  // Sparse only, but embedding_dim, which a dense_embedding has as well.
  std::string table;           ///< `embedding_name` or "<name>_emb"
  int64_t num_embeddings = 0;  ///< rows of the table
  int64_t embedding_dim = 0;
  Pooling pooling = Pooling::kSum;
  std::string init_fn;  ///< text of the config; empty = uniform(-sqrt(1/rows), sqrt(1/rows))
  bool trainable = true;
  std::string data_type = "FP32";  ///< FP32 | FP16, what the config asks for

  /// Width of the feature in a DEEP group, or of an element: that of its vector, or value_dim when it has none.
  int64_t output_dim() const { return sparse || dense_embedding ? embedding_dim : value_dim; }
  /// Tiled over the items of a request.
  bool user_side() const { return of_user; }

  int index = 0;             ///< position in FeatureSet::sparse(), dense() or dense_sequences()
  int64_t dense_column = 0;  ///< dense only: first column in Batch::dense
  int config_index = 0;      ///< position in feature_configs
  int member_index = 0;      ///< position in sequence_feature.features, where it belongs to one
};

/// All features of a config; stub features, which only other features read, stand apart. Throws ConfigError naming the
/// feature for anything unknown, contradictory or not supported yet.
class FeatureSet {
 public:
  static FeatureSet FromConfig(const tzrec::protos::EasyRecConfig& config);

  const std::vector<Feature>& all() const { return all_; }               ///< in config order
  const std::vector<const Feature*>& sparse() const { return sparse_; }  ///< feature index of Batch::sparse
  const std::vector<const Feature*>& dense() const { return dense_; }    ///< without dense sequences
  const std::vector<const Feature*>& dense_sequences() const { return dense_sequences_; }
  const Feature* Find(const std::string& name) const;  ///< null when there is none
  /// Stub features too: what a `feature:` input in FG_DAG names.
  const Feature* FindAny(const std::string& name) const;
  int64_t dense_width() const { return dense_width_; }
  bool weighted() const { return weighted_; }  ///< any feature weighted: then every one carries weights (1)
  tzrec::protos::FgMode fg_mode() const { return fg_mode_; }
  /// FG_NONE and FG_BUCKETIZE: a feature's values are in the column of its name.
  bool reads_own_columns() const {
    return fg_mode_ == tzrec::protos::FG_NONE || fg_mode_ == tzrec::protos::FG_BUCKETIZE;
  }
  /// Columns that the feature program reads, each once, in config order.
  const std::vector<std::string>& input_columns() const { return input_columns_; }

  FeatureSet(const FeatureSet&) = delete;
  FeatureSet& operator=(const FeatureSet&) = delete;
  FeatureSet(FeatureSet&&) = default;
  FeatureSet& operator=(FeatureSet&&) = default;

 private:
  FeatureSet() = default;

  std::vector<Feature> all_, stubs_;  // never resized after construction: sparse_ and dense_ point into it
  std::vector<const Feature*> sparse_, dense_, dense_sequences_;
  std::unordered_map<std::string, const Feature*> by_name_, stub_by_name_;
  std::vector<std::string> input_columns_;
  int64_t dense_width_ = 0;
  bool weighted_ = false;
  tzrec::protos::FgMode fg_mode_ = tzrec::protos::FG_NONE;
};

}  // namespace anneal::features
