#include "operator/kube/leader_election.h"

#include <algorithm>
#include <ctime>

namespace anneal::kube {
namespace {

using std::chrono::milliseconds;

/// MicroTime: "2026-11-24T10:00:00.000000Z".
std::string Micro(Clock::Time time) {
  std::string text = FormatTime(time);
  text.insert(text.size() - 1, ".000000");
  return text;
}

void Sleep(milliseconds time, const std::atomic<bool>& stop) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (!stop && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::min<milliseconds>(time, milliseconds(50)));
  }
}

}  // namespace

bool LeaderElector::Try() {
  const auto asked = Steady::now();
  const auto renewed = [&] {
    sure_until_ = (asked + options_.renew_deadline).time_since_epoch().count();
    return held_ = true;
  };
  const std::string now = Micro(clock_.Now());
  Json spec = {{"holderIdentity", options_.identity},
               {"leaseDurationSeconds", std::max<int64_t>(1, options_.lease.count() / 1000)},
               {"renewTime", now}};
  try {
    const auto lease = Find(api_, resources::kLease, options_.ns, options_.name);
    if (!lease) {
      spec["acquireTime"] = now;
      spec["leaseTransitions"] = 0;
      api_.Create(resources::kLease, options_.ns,
                  {{"apiVersion", "coordination.k8s.io/v1"},
                   {"kind", "Lease"},
                   {"metadata", {{"name", options_.name}, {"namespace", options_.ns}}},
                   {"spec", spec}});
      return renewed();
    }
    const std::string version = (*lease)["metadata"].value("resourceVersion", "");
    if (version != seen_) {
      seen_ = version;
      seen_at_ = Steady::now();
    }
    const Json old = lease->value("spec", Json::object());
    const std::string holder = old.contains("holderIdentity") && old["holderIdentity"].is_string()
                                   ? old["holderIdentity"].get<std::string>()
                                   : "";
    if (!holder.empty() && holder != options_.identity && Steady::now() < seen_at_ + options_.lease)
      return held_ = false;
    if (holder != options_.identity) {
      spec["acquireTime"] = now;
      spec["leaseTransitions"] = (old.contains("leaseTransitions") ? old["leaseTransitions"].get<int64_t>() : 0) + 1;
    }
    api_.MergePatch(resources::kLease, options_.ns, options_.name,
                    {{"metadata", {{"resourceVersion", version}}}, {"spec", spec}});
    return renewed();
  } catch (const std::exception&) {
    return false;
  }
}

bool LeaderElector::Acquire(const std::atomic<bool>& stop) {
  while (!stop) {
    if (Try()) return true;
    Sleep(options_.retry, stop);
  }
  return false;
}

bool LeaderElector::Hold(const std::atomic<bool>& stop) {
  auto renewed = Steady::now();
  while (!stop) {
    Sleep(options_.retry, stop);
    if (stop) break;
    const auto asked = Steady::now();
    if (Try()) {
      renewed = asked;
    } else if (!held_ || Steady::now() - renewed > options_.renew_deadline) {
      held_ = false;
      return false;
    }
  }
  return true;
}

void LeaderElector::Release() {
  if (!held_) return;
  held_ = false;
  try {
    const Json lease = api_.Get(resources::kLease, options_.ns, options_.name);
    if (lease["spec"].value("holderIdentity", "") != options_.identity) return;
    api_.MergePatch(
        resources::kLease, options_.ns, options_.name,
        {{"metadata", {{"resourceVersion", lease["metadata"]["resourceVersion"]}}},
         {"spec", {{"holderIdentity", ""}, {"leaseDurationSeconds", 1}, {"renewTime", Micro(clock_.Now())}}}});
  } catch (const std::exception&) {
    // The next replica waits for the lease's end.
  }
}

}  // namespace anneal::kube
