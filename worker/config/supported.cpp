#include "worker/config/supported.h"

#include <google/protobuf/descriptor.h>

#include <map>
#include <set>

namespace anneal::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

/// Of a oneof (or of a message's alternatives), what is supported; every other member is refused.
const std::map<std::string, std::set<std::string>>& SupportedMembers() {
  static const std::map<std::string, std::set<std::string>> members = {
      {"ModelConfig.model", {"dat",           "dbmtl",       "dc2vr",
                             "dcn_v1",        "dcn_v2",      "deepfm",
                             "dlrm",          "dlrm_hstu",   "dssm",
                             "dssm_v2",       "mask_net",    "mind",
                             "mmoe",          "multi_tower", "multi_tower_din",
                             "pepnet",        "ple",         "rocket_launching",
                             "sid_rqvae",     "tdm",         "ultra_hstu",
                             "wide_and_deep", "wukong",      "xdeepfm"}},
      {"GRInputPreprocessor.input_preprocessor", {"contextual_preprocessor", "contextual_interleave_preprocessor"}},
      {"FeatureConfig.feature",
       {"id_feature",
        "raw_feature",
        "combo_feature",
        "combine_feature",
        "lookup_feature",
        "match_feature",
        "bool_mask_feature",
        "expr_feature",
        "overlap_feature",
        "kv_dot_product",
        "sequence_feature",
        "sequence_id_feature",
        "sequence_raw_feature",
        "sequence_combo_feature",
        "sequence_combine_feature",
        "sequence_lookup_feature",
        "sequence_match_feature",
        "sequence_bool_mask_feature",
        "sequence_expr_feature",
        "sequence_overlap_feature",
        "sequence_kv_dot_product"}},
      {"SeqFeatureConfig.feature",
       {"id_feature", "raw_feature", "combo_feature", "combine_feature", "lookup_feature", "match_feature",
        "bool_mask_feature", "expr_feature", "overlap_feature", "kv_dot_product"}},
      {"LossConfig.loss",
       {"binary_cross_entropy", "softmax_cross_entropy", "l2_loss", "jrc_loss", "binary_focal_loss"}},
      {"LossConfig.sid_loss", {"recon_loss", "commitment_loss"}},
      {"SparseOptimizer.optimizer",
       {"sgd_optimizer", "adagrad_optimizer", "rowwise_adagrad_optimizer", "adam_optimizer",
        "partial_rowwise_adam_optimizer", "lamb_optimizer", "partial_rowwise_lamb_optimizer", "lars_sgd_optimizer",
        "adadelta_optimizer", "rmsprop_optimizer"}},
      {"DataConfig.sampler",
       {"negative_sampler", "negative_sampler_v2", "hard_negative_sampler", "hard_negative_sampler_v2", "tdm_sampler"}},
      {"CombineFeature.dense_emb", {}},
      {"LookupFeature.dense_emb", {}},
      {"MatchFeature.dense_emb", {}},
      {"ExprFeature.dense_emb", {}},
      {"OverlapFeature.dense_emb", {}},
      {"KvDotProduct.dense_emb", {}},
  };
  return members;
}

/// Fields that are refused when they are set to more than "off" (false, 0, empty, "none").
const std::set<std::string>& UnsupportedFields() {
  static const std::set<std::string> fields = {
      "DeltaEmbeddingDumpConfig.feature_store_config",
      "DataConfig.batch_cost_size",
      "DataConfig.sample_mask_prob",
      "DataConfig.negative_sample_mask_prob",
      "SidRqvae.kmeans_init",
      "SidRqvae.contrastive_config",
      "SidCandidateOutputConfig.enabled",
      "IdFeature.zch",
      "IdFeature.dynamicemb",
      "ComboFeature.zch",
      "ComboFeature.dynamicemb",
      "LookupFeature.zch",
      "LookupFeature.dynamicemb",
      "MatchFeature.zch",
      "MatchFeature.dynamicemb",
      "BoolMaskFeature.zch",
      "BoolMaskFeature.dynamicemb",
      "KvDotProduct.kv_delimiter",
      "KvDotProduct.normalizer",
  };
  return fields;
}

bool IsOff(const Message& message, const FieldDescriptor* field) {
  const auto* reflection = message.GetReflection();
  if (field->is_repeated()) return reflection->FieldSize(message, field) == 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return !reflection->GetBool(message, field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection->GetUInt32(message, field) == 0;
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection->GetUInt64(message, field) == 0;
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection->GetFloat(message, field) == 0;
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text = reflection->GetString(message, field);
      return text.empty() || text == "none" || text == "NONE" || text == "None";
    }
    default:
      return false;
  }
}

Location Find(const SourceMap& sources, const std::string& path) {
  const auto found = sources.find(path);
  return found == sources.end() ? Location{} : found->second;
}

}  // namespace

void CheckSupported(const Message& message, const std::string& path, const SourceMap& sources,
                    std::vector<Fault>& faults) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const std::string type = message.GetDescriptor()->name();
    const std::string name = type + "." + field->name();
    const std::string below = path.empty() ? field->name() : path + "." + field->name();
    bool refused = false;
    if (const auto* oneof = field->real_containing_oneof()) {
      const auto members = SupportedMembers().find(type + "." + oneof->name());
      refused = members != SupportedMembers().end() && !members->second.count(field->name());
    }
    if (UnsupportedFields().count(name) && !IsOff(message, field)) refused = true;
    if (refused) {
      const std::string first = field->is_repeated() ? below + "[0]" : below;
      faults.push_back({below, Find(sources, first), "not supported yet"});
      continue;
    }
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_map()) continue;
    const auto* reflection = message.GetReflection();
    if (!field->is_repeated()) {
      CheckSupported(reflection->GetMessage(message, field), below, sources, faults);
      continue;
    }
    for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
      CheckSupported(reflection->GetRepeatedMessage(message, field, i), Item(below, i), sources, faults);
    }
  }
}

}  // namespace anneal::config
