// Export for the RTP server (parity/export.md 11): tables as safetensors, the dense graph, a rewritten fg.json.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tzrec/pipeline.pb.h"
#include "worker/data/batch.h"
#include "worker/eval/trained_model.h"
#include "worker/export/settings.h"

namespace anneal::exporting {

/// The one shard of tables and, behind a table's name, its part: an export is one process.
constexpr const char *kRtpShard = "model-000000-of-000001", *kRtpPart = "/part_0_1";

/// Throws ConfigError naming the feature for what RTP cannot serve: vocabularies, kinds other than id, raw, combo,
/// match, lookup and overlap. Warns when ids are not hashed as RTP hashes them (USE_FARM_HASH_TO_BUCKETIZE).
void CheckRtp(const tzrec::protos::EasyRecConfig& config);

/// fg.json as RTP reads it.
nlohmann::ordered_json RtpFgJson(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features);

/// Writes model-000000-of-000001.safetensors and .json, fx_user_model/scripted_model.pt (boundary tensors in, outputs
/// in alphabetical order), graph/*.graph and fg.json.
void WriteRtp(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
              const std::string& folder);

}  // namespace anneal::exporting
