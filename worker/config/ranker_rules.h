// What a generative ranker (dlrm_hstu, ultra_hstu) needs of its settings and of the feature groups (parity/models.md
// 14).
#pragma once

#include "worker/config/model_rules.h"

namespace anneal::config {

/// Calls `fail` for every fault.
void CheckRanker(const tzrec::protos::EasyRecConfig& config, const tzrec::protos::DlrmHSTU& model, const Report& fail,
                 const KnownFeatures& features);
void CheckRanker(const tzrec::protos::EasyRecConfig& config, const tzrec::protos::UltraHSTU& model, const Report& fail,
                 const KnownFeatures& features);

}  // namespace anneal::config
