// Export for serving with the tables in row servers (parity/export.md 10): the dense graph as scripted_model.pt, the
// tables as arrays beside it.
#pragma once

#include <string>

#include "worker/data/batch.h"
#include "worker/eval/trained_model.h"
#include "worker/export/settings.h"

namespace anneal::exporting {

/// The arrays of all tables, below the export's folder, without .npz or .json.
constexpr const char* kDistributedTables = "sparse/sparse_embeddings-00-of-01";

/// Writes scripted_model.pt (raw dense inputs, `batch_size`, pooled blocks by boundary name, the user's untiled),
/// dense_meta.json, gm_dense.code, graph/*.graph, and in sparse/: sparse_embeddings-00-of-01.npz and .json,
/// sparse_embedding.json, sparse_features.json.
///
/// A pooled block is called "<feature>__ebc", or "<feature>@<table>__ebc" where a feature looks up several tables.
void WriteDistributed(eval::TrainedModel& model, const data::Batch& sample, const Settings& settings,
                      const std::string& folder);

}  // namespace anneal::exporting
