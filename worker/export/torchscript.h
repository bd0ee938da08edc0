// A trained model as a TorchScript module that stock LibTorch or Python torch loads, with no code of ours.
//
// Parameters carry the checkpoint's state names. The lookups are TorchScript source; the dense model is traced, so that a
// new model needs no export code of its own.
#pragma once

#include <string>

#include "worker/data/batch.h"
#include "worker/eval/trained_model.h"

namespace anneal::exporting {

/// Writes scripted_model.pt and gm.code (its source) into `folder`. `sample` is any batch with rows: it traces the
/// graph and sizes nothing. Interface: parity/export.md 4.
void WriteTorchScript(eval::TrainedModel& model, const data::Batch& sample, const std::string& folder);

}  // namespace anneal::exporting
