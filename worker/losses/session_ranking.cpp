#include "worker/losses/session_ranking.h"

#include <ATen/ATen.h>

#include <limits>

namespace anneal::losses {
namespace {

/// For rows of `mine`: log(1 + sum over rows of `others` in the same session of exp(their logit - my logit)), which is
/// the cross entropy of the row among them. 0 for rows that are not `mine` or have no others.
at::Tensor AgainstOthers(const at::Tensor& logits, const at::Tensor& mine, const at::Tensor& others,
                         const at::Tensor& session) {
  const int64_t count = logits.size(0);  // no more sessions than rows
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  // Exponents are taken relative to the session's largest logit.
  const at::Tensor largest = at::full({count}, kNone, logits.options())
                                 .scatter_reduce(0, session, at::where(others, logits.detach(), kNone), "amax");
  const at::Tensor base = at::where(largest == kNone, at::zeros_like(largest), largest);
  const at::Tensor exponents = at::where(others, logits - base.index_select(0, session), kNone);
  const at::Tensor sum = at::zeros({count}, logits.options()).index_add(0, session, exponents.exp());
  const at::Tensor log_sum = sum.clamp_min(std::numeric_limits<float>::min()).log() + base;
  const at::Tensor loss = at::softplus(log_sum.index_select(0, session) - logits);
  const at::Tensor counted = mine.logical_and((sum > 0).index_select(0, session));
  return at::where(counted, loss, at::zeros_like(loss));
}

}  // namespace

at::Tensor NumberSessions(const at::Tensor& ids) {
  return std::get<1>(at::_unique(ids, /*sorted=*/true, /*return_inverse=*/true));
}

at::Tensor SessionRanking(const at::Tensor& logits, const at::Tensor& label, const at::Tensor& sessions) {
  const at::Tensor positive = label == 1, negative = positive.logical_not();
  return AgainstOthers(logits.select(1, 1), positive, negative, sessions) +
         AgainstOthers(logits.select(1, 0), negative, positive, sessions);
}

}  // namespace anneal::losses
