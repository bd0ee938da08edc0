#include "worker/models/task_chain.h"

#include <algorithm>

#include "worker/config/error.h"

namespace anneal::models {

size_t TaskChain::TaskBefore(const std::string& name, const std::string& where) const {
  const auto found =
      std::find_if(heads_.begin(), heads_.end(), [&](const Head& head) { return head.suffix == "_" + name; });
  if (found == heads_.end()) throw ConfigError(where + ": no tower '" + name + "' stands before it");
  return found - heads_.begin();
}

std::vector<at::Tensor> TaskChain::Outputs(const at::Tensor& x) {
  const at::Tensor shared = bottom_ ? bottom_->Forward(x) : x;
  std::vector<at::Tensor> vectors = mmoe_ ? mmoe_->Forward(shared) : std::vector<at::Tensor>(tasks_.size(), shared);
  std::vector<at::Tensor> outputs;
  for (size_t t = 0; t < tasks_.size(); ++t) {
    if (tasks_[t].mlp) vectors[t] = tasks_[t].mlp->Forward(vectors[t]);
    vectors[t] = Join(t, vectors);
    outputs.push_back(tasks_[t].output->Forward(vectors[t]));
  }
  return outputs;
}

}  // namespace anneal::models
