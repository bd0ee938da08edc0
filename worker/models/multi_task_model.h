// What MMoE, PLE and PEPNet share (parity/models.md 10).
#pragma once

#include <memory>
#include <vector>

#include "worker/models/model.h"
#include "worker/models/task_tower.h"

namespace anneal::models {

/// A model that hands each of its tasks a vector, and that to the task's tower, "_task_tower.<t>".
class MultiTaskModel : public Model {
 protected:
  /// Towers and heads, every tower reading `in` columns. Throws ConfigError when there are none.
  void AddTowers(const google::protobuf::RepeatedPtrField<tzrec::protos::TaskTower>& towers, int64_t in,
                 const ModelInput& input);
  /// One [B, in] per task -> one [B, num_class] per task.
  std::vector<at::Tensor> Towers(const std::vector<at::Tensor>& tasks);

 private:
  std::vector<std::unique_ptr<TaskTower>> towers_;
};

}  // namespace anneal::models
