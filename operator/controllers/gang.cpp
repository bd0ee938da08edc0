#include "operator/controllers/gang.h"

#include "operator/controllers/worker_pod.h"

namespace anneal::controllers {
namespace {

using kube::Json;

Json SchedulingOf(const Json& job) { return job["spec"].value("scheduling", Json::object()); }
std::string ModeOf(const Json& job) { return SchedulingOf(job).value("gang", Json::object()).value("mode", "None"); }

/// n x "500m" = "<n*500>m": a quantity's number times n, its suffix kept.
Json Times(const Json& quantity, int64_t n) {
  if (quantity.is_number_integer()) return quantity.get<int64_t>() * n;
  const std::string text = quantity.get<std::string>();
  const size_t end = text.find_first_not_of("0123456789");
  if (end == 0) return quantity;
  if (end != std::string::npos && text[end] == '.') {
    // A fraction: digits without the dot times n, the dot put back; exact, as floating point is not.
    const size_t unit = text.find_first_not_of("0123456789.");
    const std::string suffix = unit == std::string::npos ? "" : text.substr(unit);
    std::string digits = text.substr(0, unit);
    const size_t dot = digits.find('.');
    size_t decimals = digits.size() - dot - 1;
    digits.erase(dot, 1);
    std::string product = std::to_string(std::stoll(digits) * n);
    while (product.size() <= decimals) product.insert(0, "0");
    product.insert(product.size() - decimals, ".");
    return product + suffix;
  }
  return std::to_string(std::stoll(text.substr(0, end)) * n) + (end == std::string::npos ? "" : text.substr(end));
}

}  // namespace

bool UsesVolcano(const Json& job) { return ModeOf(job) == "Volcano"; }

std::string PodGroupName(const Json& job, int run) {
  return job["metadata"]["name"].get<std::string>() + "-r" + std::to_string(run);
}

void ApplyScheduling(const Json& job, Json& pod) {
  const Json scheduling = SchedulingOf(job);
  Json& metadata = pod["metadata"];
  const Json& run = job["status"]["run"];
  if (scheduling.contains("queueName")) metadata["labels"]["kueue.x-k8s.io/queue-name"] = scheduling["queueName"];
  if (ModeOf(job) == "Kueue") {
    metadata["labels"]["kueue.x-k8s.io/pod-group-name"] =
        PodGroupName(job, run["number"]) + "-a" + run["attempt"].dump();
    metadata["annotations"]["kueue.x-k8s.io/pod-group-total-count"] = job["spec"]["workers"]["numNodes"].dump();
    metadata["annotations"]["kueue.x-k8s.io/retriable-in-group"] = "false";
  }
  if (UsesVolcano(job)) {
    metadata["annotations"]["scheduling.k8s.io/group-name"] = PodGroupName(job, run["number"]);
    pod["spec"]["schedulerName"] = "volcano";
  }
  for (const char* field : {"schedulerName", "priorityClassName"}) {
    if (scheduling.contains(field)) pod["spec"][field] = scheduling[field];
  }
}

Json VolcanoPodGroup(const Json& job, const Json& pod) {
  const Json scheduling = SchedulingOf(job);
  const int64_t workers = job["spec"]["workers"]["numNodes"];
  const int run = job["status"]["run"]["number"];
  Json labels = JobLabels(job);
  labels["anneal.dev/run"] = std::to_string(run);
  Json spec = {{"minMember", workers}};
  const Json resources = pod["spec"]["containers"][0].value("resources", Json::object());
  Json least = resources.value("limits", Json::object());  // a request that is not stated is the limit
  least.update(resources.value("requests", Json::object()));
  for (const auto& [name, quantity] : least.items()) spec["minResources"][name] = Times(quantity, workers);
  if (scheduling["gang"].contains("queue")) spec["queue"] = scheduling["gang"]["queue"];
  if (scheduling.contains("priorityClassName")) spec["priorityClassName"] = scheduling["priorityClassName"];
  return {
      {"metadata", {{"name", PodGroupName(job, run)}, {"labels", labels}, {"ownerReferences", {OwnerReference(job)}}}},
      {"spec", spec}};
}

}  // namespace anneal::controllers
