// What is wrong with a config although it parses (parity/train.md 2, 7, 12-13; features.md 1-2; models.md 1-2, 4, 6).
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "worker/config/feature_kinds.h"
#include "worker/config/feature_rules.h"
#include "worker/config/group_rules.h"
#include "worker/config/model_rules.h"
#include "worker/config/name_pattern.h"
#include "worker/config/pipeline.h"
#include "worker/config/supported.h"

namespace anneal::config {
namespace {

using namespace tzrec::protos;  // NOLINT: the schema

/// A feature as the rules see it.
struct FeatureFacts {
  std::string path, table;
  bool sparse = false;
  int64_t dim = 0;  ///< columns in a group; 0: not known
  bool sequence = false;
  bool embedded = false;  ///< dense, with autodis or mlp
};

class Validator {
 public:
  Validator(const LoadedConfig& loaded, std::vector<Fault>& faults)
      : config_(loaded.config), sources_(loaded.sources), faults_(faults) {}

  void Run() {
    Train();
    Data();
    Features();
    Model();
    const std::string exporter = config_.export_config().exporter_type();
    if (exporter != "latest" && exporter != "best")
      Fail("export_config.exporter_type", "'" + exporter + "' is not latest or best");
  }

 private:
  /// The place of the longest known prefix of the path.
  Location At(std::string path) const {
    for (;;) {
      if (const auto found = sources_.find(path); found != sources_.end()) return found->second;
      const size_t cut = path.find_last_of(".[");
      if (cut == std::string::npos) return {};
      path.resize(cut);
    }
  }
  void Fail(const std::string& path, const std::string& message) { faults_.push_back({path, At(path), message}); }

  void Train() {
    if (!config_.has_train_config()) return Fail("train_config", "is missing");
    const auto& train = config_.train_config();
    if ((train.num_steps() > 0) == (train.num_epochs() > 0)) {
      Fail("train_config", train.num_steps() > 0 ? "num_steps and num_epochs must not be set together"
                                                 : "one of num_steps and num_epochs has to be set");
    }
    Optimizer(train.sparse_optimizer(), "train_config.sparse_optimizer");
    Optimizer(train.dense_optimizer(), "train_config.dense_optimizer");
    static const std::vector<std::string> summaries = {
        "loss", "learning_rate", "parameter", "global_gradient_norm", "gradient_norm", "gradient"};
    for (int i = 0; i < train.tensorboard_summaries_size(); ++i) {
      const std::string path = Item("train_config.tensorboard_summaries", i), name = train.tensorboard_summaries(i);
      if (std::find(summaries.begin(), summaries.end(), name) == summaries.end()) {
        Fail(path, "'" + name +
                       "' is not one of loss, learning_rate, parameter, global_gradient_norm, gradient_norm, gradient" +
                       DidYouMean(name, summaries));
      }
    }
    const auto& dense = train.dense_optimizer();
    for (int i = 0; i < dense.part_optimizers_size(); ++i) {
      const auto& part = dense.part_optimizers(i);
      const std::string path = Item("train_config.dense_optimizer.part_optimizers", i);
      Optimizer(part, path, /*rate_needed=*/false);
      const std::string problem = NamePattern(part.regex_pattern()).error();
      if (!problem.empty()) Fail(path + ".regex_pattern", problem);
    }
    if (dense.has_ema() && !(dense.ema().decay() >= 0 && dense.ema().decay() <= 1)) {
      Fail("train_config.dense_optimizer.ema.decay", "must be in [0, 1]");
    }
    const std::string mixed = train.mixed_precision();
    if (!mixed.empty() && mixed != "BF16" && mixed != "FP16") {
      Fail("train_config.mixed_precision", "'" + mixed + "' is not BF16 or FP16");
    }
    std::string clipping = train.grad_clipping().clipping_type();
    std::transform(clipping.begin(), clipping.end(), clipping.begin(), [](unsigned char c) { return std::toupper(c); });
    if (clipping != "NORM" && clipping != "VALUE" && clipping != "NONE") {
      Fail("train_config.grad_clipping.clipping_type",
           "'" + train.grad_clipping().clipping_type() + "' is not one of norm, value, none");
    }
    const float quorum = train.save_checkpoints_timestamp_quorum();
    if ((train.save_checkpoints_timestamp_interval() > 0 || train.save_checkpoints_timestamps_size() > 0) &&
        !(quorum > 0 && quorum <= 1)) {
      Fail("train_config.save_checkpoints_timestamp_quorum", "must be more than 0 and at most 1");
    }
    if (train.has_grad_scaler()) Scaler(train.grad_scaler());
    if (train.has_delta_embedding_dump_config()) DeltaDump(train.delta_embedding_dump_config());
    Constraints(train.global_embedding_constraints(), "train_config.global_embedding_constraints");
  }

  void Scaler(const GradScaler& scaler) {
    const std::string path = "train_config.grad_scaler";
    if (!(scaler.init_scale() > 0)) Fail(path + ".init_scale", "must be more than 0");
    if (!(scaler.growth_factor() > 1)) Fail(path + ".growth_factor", "must be more than 1");
    if (!(scaler.backoff_factor() > 0 && scaler.backoff_factor() < 1))
      Fail(path + ".backoff_factor", "must be more than 0 and less than 1");
    if (scaler.growth_interval() == 0) Fail(path + ".growth_interval", "must be at least 1");
  }

  void DeltaDump(const DeltaEmbeddingDumpConfig& dump) {
    const std::string path = "train_config.delta_embedding_dump_config";
    if (dump.has_dump_interval_steps() && dump.has_dump_interval_minutes())
      Fail(path, "dump_interval_steps and dump_interval_minutes must not be set together");
    if (dump.dump_interval_steps() == 0) Fail(path + ".dump_interval_steps", "must be at least 1");
    if (dump.has_dump_interval_minutes() && dump.dump_interval_minutes() == 0)
      Fail(path + ".dump_interval_minutes", "must be at least 1");
    if (dump.file_prefix().empty() || dump.file_prefix().find('/') != std::string::npos)
      Fail(path + ".file_prefix", "must be the beginning of a file name");
  }

  template <typename Message>
  void Optimizer(const Message& optimizer, const std::string& path, bool rate_needed = true) {
    if (optimizer.optimizer_case() == Message::OPTIMIZER_NOT_SET) Fail(path, "no optimizer is set");
    const auto* chosen = Message::descriptor()->FindFieldByNumber(optimizer.optimizer_case());
    if (chosen) Numbers(optimizer.GetReflection()->GetMessage(optimizer, chosen), path + "." + chosen->name());
    switch (optimizer.learning_rate_case()) {
      case Message::kExponentialDecayLearningRate:
        if (optimizer.exponential_decay_learning_rate().decay_size() == 0) {
          Fail(path + ".exponential_decay_learning_rate", "decay_size must be given");
        }
        break;
      case Message::kManualStepLearningRate: {
        const auto& steps = optimizer.manual_step_learning_rate();
        if (steps.schedule_sizes_size() == 0 || steps.schedule_sizes_size() != steps.learning_rates_size()) {
          Fail(path + ".manual_step_learning_rate",
               "schedule_sizes and learning_rates need the same number of values, at least one");
        }
        if (!std::is_sorted(steps.schedule_sizes().begin(), steps.schedule_sizes().end())) {
          Fail(path + ".manual_step_learning_rate.schedule_sizes", "must ascend");
        }
        break;
      }
      case Message::kCosineAnnealingLearningRate:
        if (optimizer.cosine_annealing_learning_rate().t_max() == 0)
          Fail(path + ".cosine_annealing_learning_rate", "T_max must be positive");
        break;
      case Message::kCosineAnnealingWarmRestartsLearningRate:
        if (optimizer.cosine_annealing_warm_restarts_learning_rate().t_0() == 0)
          Fail(path + ".cosine_annealing_warm_restarts_learning_rate", "T_0 must be positive");
        break;
      case Message::LEARNING_RATE_NOT_SET:
        if (rate_needed)
          Fail(path, "no learning_rate is set (constant_learning_rate, exponential_decay_learning_rate, ...)");
        break;
      default:
        break;
    }
  }

  /// Settings of an optimizer; torch refuses the same.
  void Numbers(const google::protobuf::Message& optimizer, const std::string& path) {
    for (int i = 0; i < optimizer.GetDescriptor()->field_count(); ++i) {
      const auto* field = optimizer.GetDescriptor()->field(i);
      if (field->is_repeated() || field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_FLOAT) continue;
      const float value = optimizer.GetReflection()->GetFloat(optimizer, field);
      const std::string name = field->name(), at = path + "." + name;
      const bool beta = name.starts_with("beta");
      if (!beta && name != "lr" && name != "eps" && name != "rho" && name != "alpha") continue;
      if (!std::isfinite(value)) {
        Fail(at, "is no number");
      } else if (beta ? value < 0 || value >= 1 : name == "rho" ? value < 0 || value > 1 : value < 0) {
        Fail(at, beta            ? "must be at least 0 and less than 1"
                 : name == "rho" ? "must be in [0, 1]"
                                 : "must not be negative");
      }
    }
  }

  void Constraints(const ParameterConstraints& constraints, const std::string& path) {
    static const std::vector<std::string> types = {"data_parallel",  "table_wise",        "column_wise", "row_wise",
                                                   "table_row_wise", "table_column_wise", "grid_shard"};
    static const std::vector<std::string> kernels = {"dense", "fused", "fused_uvm", "fused_uvm_caching", "key_value"};
    Names(constraints.sharding_types(), types, {types.begin(), types.end()}, path + ".sharding_types");
    Names(constraints.compute_kernels(), kernels, {"fused", "dense"}, path + ".compute_kernels");
  }

  /// Legal names, of which at least one has to be supported (the planner takes that one).
  template <typename List>
  void Names(const List& names, const std::vector<std::string>& legal, const std::set<std::string>& supported,
             const std::string& path) {
    bool any = names.empty();
    for (int i = 0; i < names.size(); ++i) {
      any = any || supported.count(names.Get(i));
      if (std::find(legal.begin(), legal.end(), names.Get(i)) == legal.end()) {
        Fail(Item(path, i), "'" + names.Get(i) + "' is not known" + DidYouMean(names.Get(i), legal));
        any = true;
      }
    }
    if (!any) Fail(path, "none of these is supported yet");
  }

  void Data() {
    if (!config_.has_data_config()) return Fail("data_config", "is missing");
    const auto& data = config_.data_config();
    if (data.batch_size() == 0) Fail("data_config.batch_size", "must be at least 1");
    if (data.dataset_type() != ParquetDataset && data.dataset_type() != CsvDataset) {
      Fail("data_config.dataset_type",
           DatasetType_Name(data.dataset_type()) + ": not supported yet; ParquetDataset and CsvDataset are");
    }
    if (data.label_fields_size() == 0) Fail("data_config", "label_fields is empty");
    if (data.dataset_type() == CsvDataset) {
      if (data.delimiter().size() != 1)
        Fail("data_config.delimiter", "\"" + data.delimiter() + "\" is not one character");
      if (!data.with_header() && data.input_fields_size() == 0 && data.input_fields_str().empty())
        Fail("data_config", "CSV needs with_header or the column names in input_fields");
    }
  }

  void Features() {
    for (int i = 0; i < config_.feature_configs_size(); ++i) {
      if (config_.feature_configs(i).has_sequence_feature())
        Sequence(config_.feature_configs(i).sequence_feature(), Item("feature_configs", i) + ".sequence_feature");
    }
    const std::vector<FeatureEntry> entries = FeatureEntries(config_);
    for (const FeatureEntry& entry : entries) {
      if (!entry.feature) Fail(entry.path, "names no feature (id_feature, raw_feature, ...)");
      if (entry.feature) VisitFeature(*entry.feature, [&](const auto& feature) { Feature(feature, entry); });
    }
    const Report fail = [this](const std::string& at, const std::string& message) { Fail(at, message); };
    CheckFeatures(entries, config_.data_config(), fail);
  }

  /// Kinds that CheckSupported refuses do not come here.
  template <typename Kind>
  void Feature(const Kind& feature, const FeatureEntry& entry) {
    if (entry.sequence && !entry.group) Delimiter(feature, entry.path);
    const Encoding encoding = EncodingOf(feature);
    if (const auto* id = std::get_if<IdFeature>(&encoding)) {
      Id(*id, entry);
    } else {
      Raw(std::get<RawFeature>(encoding), entry);
    }
  }

  void Sequence(const SequenceFeature& sequence, const std::string& path) {
    const std::string& name = sequence.sequence_name();
    if (name.empty()) {
      Fail(path, "sequence_name is missing");
    } else if (!sequences_.insert(name).second) {
      Fail(path + ".sequence_name", "the name '" + name + "' is used twice");
    }
    Delimiter(sequence, path);
    if (sequence.features_size() == 0) Fail(path, "sequence '" + name + "' has no features");
  }

  template <typename Message>
  void Delimiter(const Message& sequence, const std::string& path) {
    if (sequence.sequence_delim().empty()) Fail(path + ".sequence_delim", "must not be empty");
  }

  void Id(const IdFeature& f, const FeatureEntry& entry) {
    const std::string& at = entry.path;
    Common(f, true, entry);
    int sizes = f.has_zch() + f.has_dynamicemb() + f.has_hash_bucket_size() + f.has_num_buckets() +
                (f.vocab_list_size() > 0) + (f.vocab_dict_size() > 0) + f.has_vocab_file();
    const std::string buckets = entry.kind == "combo_feature" ? "" : "num_buckets, ";
    if (sizes == 0 && !f.stub_type())
      Fail(at, "one of hash_bucket_size, " + buckets + "vocab_list, vocab_dict, vocab_file is needed");
    if (sizes > 1)
      Fail(at,
           "only one of hash_bucket_size, num_buckets, vocab_list, vocab_dict, vocab_file, zch, dynamicemb may be "
           "set");
    if (f.has_hash_bucket_size() && f.hash_bucket_size() == 0) Fail(at + ".hash_bucket_size", "must be at least 1");
    if (f.has_num_buckets() && f.num_buckets() == 0) Fail(at + ".num_buckets", "must be at least 1");
    const auto at_most_rows = [&](const char* field, uint64_t rows) {
      if (rows > static_cast<uint64_t>(kMostRows))
        Fail(at + "." + field, "must be at most " + std::to_string(kMostRows));
    };
    at_most_rows("hash_bucket_size", f.hash_bucket_size());
    at_most_rows("num_buckets", f.num_buckets());
    for (const auto& [word, row] : f.vocab_dict()) at_most_rows("vocab_dict", row);
    if (f.has_vocab_file() && !f.has_default_bucketize_value())
      Fail(at + ".vocab_file", "needs default_bucketize_value");
    if (f.vocab_list_size() > 0 && f.has_default_bucketize_value() &&
        f.default_bucketize_value() >= static_cast<uint64_t>(f.vocab_list_size())) {
      Fail(at + ".default_bucketize_value",
           "must be less than the length of vocab_list, " + std::to_string(f.vocab_list_size()));
    }
    if (!entry.sequence) return;
    if (f.has_value_dim() && f.value_dim() != 1) SeveralIds(FullName(f.feature_name(), entry), at);
    if (f.weighted())
      Fail(at + ".weighted", "feature '" + FullName(f.feature_name(), entry) + "' is a sequence: not supported yet");
  }

  void Raw(const RawFeature& f, const FeatureEntry& entry) {
    const std::string& at = entry.path;
    const bool sparse = f.boundaries_size() > 0;
    Common(f, sparse, entry);
    const bool embedded = f.dense_emb_case() != RawFeature::DENSE_EMB_NOT_SET;
    if (const auto facts = features_.find(FullName(f.feature_name(), entry)); !sparse && facts != features_.end()) {
      facts->second.embedded = embedded;
      if (!embedded) facts->second.dim = f.value_dim();
    }
    if (embedded && entry.kind == "raw_feature") DenseEmbedding(f, entry);  // CheckSupported knows the other kinds
    if (!std::is_sorted(f.boundaries().begin(), f.boundaries().end())) Fail(at + ".boundaries", "must ascend");
    if (f.value_dim() == 0 && entry.kind == "raw_feature") {
      Fail(at + ".value_dim", "must be at least 1");
    } else if (entry.sequence && sparse && f.value_dim() != 1) {
      SeveralIds(FullName(f.feature_name(), entry), at);
    }
  }

  void DenseEmbedding(const RawFeature& f, const FeatureEntry& entry) {
    const std::string at = entry.path + (f.has_autodis() ? ".autodis" : ".mlp");
    if (f.boundaries_size() > 0) Fail(at, "and boundaries, which make the feature sparse, exclude each other");
    if (entry.sequence) Fail(at, "a sequence has no dense embedding");
    if (f.embedding_dim() == 0 && f.boundaries_size() == 0) Fail(at, "needs an embedding_dim of more than 0");
    if (!f.has_autodis()) return;
    if (f.value_dim() > 1) Fail(at, "needs a value_dim of 1, it is " + std::to_string(f.value_dim()));
    if (f.autodis().num_channels() == 0) Fail(at + ".num_channels", "must be at least 1");
    if (!(f.autodis().temperature() > 0)) Fail(at + ".temperature", "must be more than 0");
    if (!std::isfinite(f.autodis().keep_prob())) Fail(at + ".keep_prob", "is no number");
  }

  void SeveralIds(const std::string& feature, const std::string& at) {
    Fail(at + ".value_dim",
         "feature '" + feature + "': a sequence whose elements have other than 1 id: not supported yet");
  }

  template <typename Message>
  void Common(const Message& f, bool sparse, const FeatureEntry& entry) {
    const std::string& path = entry.path;
    if (f.feature_name().empty()) return Fail(path, "feature_name is missing");
    const std::string name = FullName(f.feature_name(), entry);
    FeatureFacts facts{path, f.has_embedding_name() ? f.embedding_name() : name + "_emb", sparse,
                       static_cast<int64_t>(f.embedding_dim()), entry.sequence};
    if (!names_.insert(name).second) Fail(path + ".feature_name", "the name '" + name + "' is used twice");
    if (!f.stub_type()) features_.emplace(name, facts);
    if (sparse && f.embedding_dim() == 0 && !f.stub_type())
      Fail(path, "feature '" + name + "': embedding_dim must be more than 0");
    if (f.embedding_dim() > kMostWidth) Fail(path + ".embedding_dim", "must be at most " + std::to_string(kMostWidth));
    if (f.value_dim() > kMostWidth) Fail(path + ".value_dim", "must be at most " + std::to_string(kMostWidth));
    if (f.pooling() != "sum" && f.pooling() != "mean")
      Fail(path + ".pooling", "'" + f.pooling() + "' is not sum or mean");
    if (f.data_type() != "FP32" && f.data_type() != "FP16")
      Fail(path + ".data_type", "'" + f.data_type() + "' is not FP32 or FP16");
    if (f.data_type() == "FP16") Fail(path + ".data_type", "FP16: not supported yet");
    if (f.has_use_mask() && f.use_mask()) Fail(path + ".use_mask", "not supported yet");
    Constraints(f.embedding_constraints(), path + ".embedding_constraints");
  }

  void Model() {
    if (!config_.has_model_config()) return Fail("model_config", "is missing");
    std::map<std::string, FeatureKind> kinds;
    for (const auto& [name, facts] : features_) kinds[name] = {facts.sparse, facts.sequence, facts.embedded};
    const Report fail = [this](const std::string& at, const std::string& message) { Fail(at, message); };
    CheckGroups(config_.model_config(), kinds, fail);
    CheckModel(config_, fail,
               {[this](const std::string& feature) { return SparseFault(feature); },
                [this](const std::string& feature) {
                  const auto found = features_.find(feature);
                  return found == features_.end() ? 0 : found->second.dim;
                },
                [this](const std::string& feature) {
                  const auto found = features_.find(feature);
                  return found != features_.end() && !found->second.sequence;
                }});
  }

  std::string SparseFault(const std::string& name) const {
    const auto found = features_.find(name);
    if (found == features_.end()) {
      std::vector<std::string> sparse;
      for (const auto& [other, facts] : features_) {
        if (facts.sparse) sparse.push_back(other);
      }
      return "there is no feature '" + name + "'" + DidYouMean(name, sparse);
    }
    return found->second.sparse ? "" : "'" + name + "' is a dense feature; ids of a sparse one are needed";
  }

  const EasyRecConfig& config_;
  const SourceMap& sources_;
  std::vector<Fault>& faults_;
  std::map<std::string, FeatureFacts> features_;  ///< without stub features, which are in no group
  std::set<std::string> names_;                   ///< of all features
  std::set<std::string> sequences_;               ///< sequence_name of every sequence_feature
};

}  // namespace

std::vector<Fault> Validate(const LoadedConfig& loaded) {
  std::vector<Fault> faults;
  CheckSupported(loaded.config, "", loaded.sources, faults);
  Validator(loaded, faults).Run();
  std::stable_sort(faults.begin(), faults.end(), [](const Fault& a, const Fault& b) { return a.at.line < b.at.line; });
  return faults;
}

}  // namespace anneal::config
