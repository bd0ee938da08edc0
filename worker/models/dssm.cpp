#include "worker/models/dssm.h"

namespace anneal::models {

std::vector<at::Tensor> Dssm::Forward(const Groups& groups) {
  if (!item_) return {user_->Forward(groups)};
  if (!user_) return {item_->Forward(groups)};
  return {Similarity(user_->Forward(groups), item_->Forward(groups), groups.sampled)};
}

}  // namespace anneal::models
