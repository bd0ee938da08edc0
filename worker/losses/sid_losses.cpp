#include "worker/losses/sid_losses.h"

#include <ATen/ATen.h>

namespace anneal::losses {

at::Tensor MeanDistance(const std::string& type, const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.to(at::kFloat), y = b.to(at::kFloat);
  if (type == "cos") return (1 - at::cosine_similarity(x, y, -1)).mean();
  const at::Tensor difference = x - y;
  return (type == "l1" ? difference.abs() : difference.square()).mean();
}

at::Tensor CommitmentLoss(const std::string& type, const at::Tensor& encoded, const at::Tensor& latents, double w1,
                          double w2) {
  const at::Tensor beside = encoded.unsqueeze(1).expand_as(latents);
  return w1 * MeanDistance(type, beside, latents.detach()) + w2 * MeanDistance(type, beside.detach(), latents);
}

}  // namespace anneal::losses
