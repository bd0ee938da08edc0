// Manifests of the command line as objects.
#pragma once

#include <string>
#include <vector>

#include "operator/kube/api.h"

namespace anneal::local {

struct Manifest {
  kube::Resource resource;
  kube::Json object;
  std::string where;  ///< "trainjob.yaml, document 1"
};

/// Every document of a YAML or JSON file, or of the .yaml files of a folder. Throws ConfigError naming file, document
/// and line.
std::vector<Manifest> LoadManifests(const std::string& path);

/// kubectl apply: creates the object or patches what is there. Errors name where the object came from.
kube::Json Apply(kube::Api& api, const Manifest& manifest);

}  // namespace anneal::local
