// What has to be true at every single state of the cluster, whatever failed: checked on each change as it happens.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "operator/kube/api.h"
#include "operator/kube/reconciler.h"

namespace anneal::fault {

class Invariants {
 public:
  /// One change, in the server's order. `writer`: "operator", "late" (an operator that
  /// was stopped in this very write: nothing fences it, but it has to heal), or whoever else.
  void Observe(const kube::Resource& resource, kube::EventType type, const kube::Json& object,
               const std::string& writer);

  /// The invariants that did not hold, in words.
  const std::vector<std::string>& broken() const { return broken_; }
  /// How often each object was made: "pods/default/x" -> count.
  const std::map<std::string, int>& made() const { return made_; }

 private:
  struct JobFacts {
    int64_t run = 0, attempt = 0, generation = 0, restarts = 0, counted = 0;
    std::string ended;  ///< phase and time of the run that has ended
  };

  void Broken(const std::string& text);
  void PodMade(const kube::Json& pod);
  void PodTaken(const kube::Json& pod);
  void StatusWritten(const kube::Resource& resource, const kube::Json& job);
  void CheckConditions(const std::string& name, const kube::Json& status);
  const kube::Json* OwnerOf(const kube::Json& object) const;

  std::vector<std::string> broken_;
  std::map<std::string, int> made_;
  std::map<std::string, kube::Json> objects_;  ///< by UID
  std::map<std::string, JobFacts> jobs_;       ///< by UID
  std::set<std::string> workers_;              ///< "uid r a i" of every pod made
  std::map<std::string, std::string> specs_;   ///< "uid r" -> what the run's pods are made from
  std::set<std::string> late_, removed_;       ///< UIDs of pods made late; of pods that the operator deletes
  std::set<std::string> passed_;               ///< models that passed a gate: "trainjob-uid run step"
};

}  // namespace anneal::fault
