// The lookups of a model as TorchScript source: input dictionary -> pooled matrix and dense matrix.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "worker/export/settings.h"
#include "worker/features/feature_set.h"
#include "worker/models/embedding_group.h"

namespace anneal::exporting {

/// A TorchScript string literal.
std::string Quote(const std::string& text);

/// "    return {...}": names[i] -> outputs[order[i]]. (TorchScript knows no comma before a closing brace.)
std::string ReturnOutputs(const std::vector<std::string>& names, const std::vector<size_t>& order);

/// Source of the method
///   lookup(self, data: Dict[str, Tensor], device: str) -> List[Tensor]
/// and what it calls: pooled [B, plan.pooled_width], dense [B, plan.dense_width], both float32, and of every sequence
/// group its query, if it has one, sequence, length and, unless it is jagged, mask (nn::Sequence). Tables are
/// attributes under their state names, packed as the settings say. Only operators of stock LibTorch are used; the
/// source needs a resolver that knows the namespace `quantized`.
///
/// settings.input_tile (parity/export.md 7): user-side features come once, `batch_size` says how often they count. 2:
/// ids are tiled before the lookup; 3: looked up once, the embeddings are tiled.
std::string LookupSource(const models::EmbeddingPlan& plan, const features::FeatureSet& features,
                         const Settings& settings);

/// Index in plan.lookups of what a looked-up part of a sequence group is made from.
size_t LookupOf(const models::EmbeddingPlan& plan, const models::SequencePart& part);

/// How many tensors `lookup` returns.
size_t LookupResults(const models::EmbeddingPlan& plan);

}  // namespace anneal::exporting
