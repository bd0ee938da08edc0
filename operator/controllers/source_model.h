// The model that an EvalJob, an ExportJob or a warm start takes: which checkpoint, on which volume.
#pragma once

#include <optional>
#include <string>

#include "operator/controllers/decide.h"
#include "operator/controllers/worker_pod.h"

namespace anneal::controllers {

struct SourceModel {
  /// {trainJob, uid, run, step, mount, modelDir, claim, subPath, image, evalInputPath, edits}; of source.checkpoint
  /// only {step, mount, modelDir, claim, subPath, image, checkpoint}.
  kube::Json identity;
  std::string config;  ///< pipeline.config of the run; "" for source.checkpoint
};

/// Folder of a run: <modelDir>/<run id>. Runs of operators before ids had UIDs are r<number>.
std::string RunFolder(const kube::Json& train_job, const kube::Json& run);
/// The claim with a TrainJob's checkpoints; "" for none.
std::string ModelClaim(const kube::Json& train_job);

/// Resolves {name, run, checkpoint} to a checkpoint that is there. Run "Latest" waits for the end of the run; a number
/// is one of status.history or the current run; paths and edits are those of the run's own spec. On failure fills
/// inputs.reason and message and returns nullopt.
std::optional<SourceModel> ResolveTrainJob(kube::Api& api, const std::string& ns, const kube::Json& reference,
                                           RunInputs& inputs);
/// spec.source.checkpoint {claimName, subPath, path}; the spec has to name image and config itself.
SourceModel ResolveCheckpoint(const kube::Json& checkpoint, const kube::Json& spec);

/// The checkpoint's path where the source's volume is mounted.
std::string CheckpointOf(const kube::Json& identity);
/// Mounts the source's checkpoint volume and returns the checkpoint's path in the container.
std::string MountSource(WorkerPlan& plan, const kube::Json& identity);

}  // namespace anneal::controllers
