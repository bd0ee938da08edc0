// What MMoE, PLE and PEPNet share (parity/models.md 10).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/models/model.h"
#include "worker/models/task_tower.h"

namespace anneal::models {

/// The domains that each task has a tower for, and the label column that tells a row's. Of count 0: one tower, whatever
/// the row.
struct Domains {
  int count = 0;
  std::string label;
};

/// A model that hands each of its tasks a vector, and that to the task's tower, "_task_tower.<t>", or towers: of n
/// domains "_task_tower.<t * n + d>".
class MultiTaskModel : public Model {
 protected:
  /// Towers and heads, every tower reading `in` columns. Throws ConfigError when there are none.
  void AddTowers(const google::protobuf::RepeatedPtrField<tzrec::protos::TaskTower>& towers, int64_t in,
                 const ModelInput& input, const Domains& domains = {});
  /// One [B, in] per task -> one [B, num_class] per task, [B, n] of n domains.
  std::vector<at::Tensor> Towers(const std::vector<at::Tensor>& tasks);

 private:
  std::vector<std::unique_ptr<TaskTower>> towers_;
};

}  // namespace anneal::models
