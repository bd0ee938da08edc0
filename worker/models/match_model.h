// Models that match users with items: two towers, and how alike their vectors are (parity/models.md 11).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tzrec/models/match_model.pb.h"
#include "worker/models/model.h"
#include "worker/nn/mlp.h"

namespace anneal::models {

/// Feature groups side by side to one vector a row: `mlp`, then Linear `output` if output_dim > 0; of length 1 with
/// COSINE.
class VectorTower : public nn::Module {
 public:
  VectorTower(const ModelInput& input, std::vector<std::string> groups, const tzrec::protos::MLP& mlp,
              int64_t output_dim, tzrec::protos::Similarity similarity);
  at::Tensor Forward(const Groups& groups);  ///< [B, output_dim()]
  int64_t output_dim() const { return output_dim_; }

 private:
  const std::vector<std::string> groups_;
  const bool cosine_;
  nn::Mlp mlp_;
  const int64_t output_dim_;
  std::unique_ptr<nn::Linear> output_;
};

class MatchModel : public Model {
 protected:
  MatchModel(const ModelInput& input, double temperature, bool in_batch_negative);

  /// Registers the tower under `name`; null where only the other one is wanted (ModelInput::tower).
  std::unique_ptr<VectorTower> MakeTower(const ModelInput& input, const std::string& name,
                                         std::vector<std::string> groups, const tzrec::protos::MLP& mlp,
                                         int64_t output_dim, tzrec::protos::Similarity similarity);

  /// users [B, D], items [B + sampled.count, D] -> similarities divided by the temperature. With in_batch_negative each
  /// user with every item, otherwise [B, 1 + shared + most hard ones of a row]: with the row's own item, with the
  /// sampled ones that the rows share, with its hard negatives (-1e32 where it has fewer).
  at::Tensor Similarity(const at::Tensor& users, const at::Tensor& items, const SampledItems& sampled) const;

 private:
  const double temperature_;
  const bool in_batch_;
};

}  // namespace anneal::models
