// Exports whose tables lie beside the dense graph, run in one process: what row servers and a dense processor do
// together, for checking them.
#pragma once

#include <memory>
#include <string>

#include "worker/export/exported_model.h"

namespace anneal::exporting {

/// A distributed export: sparse/*.json, sparse/*.npz and dense_meta.json; `dense`: its scripted_model.pt. Throws
/// DataError for a folder that is not as distributed.h says.
std::unique_ptr<ExportedModel> OpenDistributed(const std::string& folder, std::unique_ptr<ExportedModel> dense);

/// An RTP export: model-000000-of-000001.safetensors; `dense`: its fx_user_model/scripted_model.pt. The lookups are
/// those of a pipeline.config, which has to lie in the folder while it is checked.
std::unique_ptr<ExportedModel> OpenRtp(const std::string& folder, std::unique_ptr<ExportedModel> dense);

}  // namespace anneal::exporting
