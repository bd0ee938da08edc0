// The TableBatch of CUDA devices: FBGEMM's table-batched operators, called through LibTorch's dispatcher. Its CPU build
// has the same operators for SGD, Adagrad and row-wise Adagrad, which is how this file is tested where there is no GPU
// (ANNEAL_TABLES=fbgemm).
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "worker/embedding/table_batch.h"

namespace anneal::embedding {

/// Pointers of the interface are memory of `device`, those of Jagged are the host's. FBGEMM's libraries are loaded from
/// ANNEAL_FBGEMM, by default from the folder that the build knows. Differences to the CPU backend:
/// Adadelta and RMSprop are not there; a CUDA table's dim has to be a multiple of 4; column shards are trained each by
/// itself, as torchrec does it, whatever `add` of BackwardUpdate would do.
/// Throws ConfigError for what it cannot do, and when the libraries are missing.
std::unique_ptr<TableBatch> MakeFbgemmTableBatch(std::vector<TableSpec> tables, std::vector<FeatureSpec> features,
                                                 const OptimizerSpec& optimizer, at::Device device);

/// The backend of a device: FBGEMM on CUDA, own kernels on the CPU (FBGEMM's with ANNEAL_TABLES=fbgemm).
std::unique_ptr<TableBatch> MakeTableBatch(std::vector<TableSpec> tables, std::vector<FeatureSpec> features,
                                           const OptimizerSpec& optimizer, int threads, at::Device device);

}  // namespace anneal::embedding
