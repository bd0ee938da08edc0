// A model's tensors as a checkpoint holds them, both ways. State names are TorchEasyRec's (parity/train.md 5).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "worker/embedding/sharded_embedding.h"
#include "worker/models/network.h"
#include "worker/optim/dense_optimizer.h"
#include "worker/train/checkpoint/checkpoint.h"

namespace anneal::eval {

/// Name in the current model -> name in the checkpoint; names that are not in it stay.
using NameMap = std::map<std::string, std::string>;

/// Pieces that this rank saves: rank 0 the dense state, every rank its shards. They point into the live model.
std::vector<checkpoint::Piece> ModelPieces(models::Network& network, embedding::ShardedEmbedding& tables, int rank);
std::vector<checkpoint::Piece> OptimizerPieces(optim::DenseOptimizer& dense, embedding::ShardedEmbedding& tables,
                                               int rank);

/// Copies a checkpoint's state into the model. What the checkpoint lacks keeps its value with the warning
/// `Skip restore state [<name>]`; a tensor of another shape throws DataError naming it.
void RestoreModel(const checkpoint::Reader& reader, models::Network& network, embedding::ShardedEmbedding& tables,
                  const NameMap& names = {});
void RestoreOptimizer(const checkpoint::Reader& reader, optim::DenseOptimizer& dense,
                      embedding::ShardedEmbedding& tables, const NameMap& names = {});

}  // namespace anneal::eval
