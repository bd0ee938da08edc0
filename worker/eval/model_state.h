// A model's tensors as a checkpoint holds them, both ways. State names are TorchEasyRec's (parity/train.md 5).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "worker/embedding/sharded_embedding.h"
#include "worker/models/network.h"
#include "worker/train/checkpoint/checkpoint.h"

namespace anneal::eval {

/// Name in the current model -> name in the checkpoint; names that are not in it stay.
using NameMap = std::map<std::string, std::string>;

/// What pieces hold: the live values, or, frozen, those of now, which stay while training goes on.
struct Freeze {
  bool on = false;
  std::shared_ptr<const embedding::TableSnapshot> tables;  ///< null: tables are copied
};

/// Pieces that this rank saves: rank 0 the dense state, every rank its shards.
std::vector<checkpoint::Piece> ModelPieces(models::Network& network, embedding::ShardedEmbedding& tables, int rank,
                                           const Freeze& freeze = {});
/// The part of it that is this rank's shards of the fused tables.
std::vector<checkpoint::Piece> TablePieces(embedding::ShardedEmbedding& tables, const Freeze& freeze = {});
/// `dense`: state of dense optimizers, averages and accumulated gradients, "<parameter>//<key>".
std::vector<checkpoint::Piece> OptimizerPieces(const std::vector<nn::NamedTensor>& dense,
                                               embedding::ShardedEmbedding& tables, int rank,
                                               const Freeze& freeze = {});

/// Copies a checkpoint's state into the model. What the checkpoint lacks keeps its value with the warning
/// `Skip restore state [<name>]`; a tensor of another shape throws DataError naming it.
void RestoreModel(const checkpoint::Reader& reader, models::Network& network, embedding::ShardedEmbedding& tables,
                  const NameMap& names = {});
void RestoreTables(const checkpoint::Reader& reader, embedding::ShardedEmbedding& tables, const NameMap& names = {});
void RestoreOptimizer(const checkpoint::Reader& reader, const std::vector<nn::NamedTensor>& dense,
                      embedding::ShardedEmbedding& tables, const NameMap& names = {});
/// Single tensors, the same way.
void RestoreTensors(const checkpoint::Reader& reader, const std::vector<nn::NamedTensor>& tensors,
                    const NameMap& names = {});

/// Puts the averages of dense_optimizer.ema over the restored model. Parameters that the checkpoint has no average of
/// stay; when it has none at all, a warning says so.
void OverlayDenseEma(const checkpoint::Reader& reader, models::Network& network, embedding::ShardedEmbedding& tables);

/// Whether a section (eval_config, export_config) asks for the averages: its use_dense_ema, by default whether
/// dense_optimizer.ema is configured.
template <typename Section>
bool UsesDenseEma(const tzrec::protos::EasyRecConfig& config, const Section& section) {
  return section.has_use_dense_ema() ? section.use_dense_ema() : config.train_config().dense_optimizer().has_ema();
}

}  // namespace anneal::eval
