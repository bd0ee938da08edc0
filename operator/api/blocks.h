// Blocks of spec that the three kinds share. Semantics: docs/user-guide/, docs/api/.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "operator/api/schema.h"

namespace anneal::api {

kube::Json ImageBlock(bool from_source);
/// imagePullPolicy, imagePullSecrets, serviceAccountName, workers, rendezvous, data, scheduling, failurePolicy,
/// activeDeadlineSeconds, suspend, cleanup, historyLimit: what every job has.
kube::Json CommonFields();
kube::Json ConfigBlock(const std::string& description);
kube::Json TrainJobRefBlock();
kube::Json CheckpointRefBlock();
kube::Json SecretRefBlock(const std::string& description);

/// Rules of the common fields.
std::vector<Rule> CommonRules();

bool Has(const kube::Json& object, const std::string& key);
int Count(const kube::Json& object, std::initializer_list<const char*> keys);
/// "exactly one of a and b": the rule at `path`, where `at` finds the object in spec (null: the rule holds).
Rule OneOf(const std::string& path, const std::vector<std::string>& keys,
           const std::function<std::vector<kube::Json>(const kube::Json&)>& at);

}  // namespace anneal::api
