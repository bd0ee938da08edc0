// The words that the tables of kinds are written in: each makes one piece of an OpenAPI v3 schema.
#pragma once

#include <string>
#include <vector>

#include "operator/kube/api.h"

namespace anneal::api {

inline constexpr const char* kAbsolutePath = "^/[^:]*$";
inline constexpr const char* kQuantity = "^[0-9]+(\\.[0-9]+)?(m|[kMGTPE]i?)?$";

kube::Json Text(const std::string& description, int max_length = 1024);
kube::Json Integer(const std::string& description, int64_t least, int64_t most);
kube::Json Flag(const std::string& description, bool fallback);
kube::Json Choice(const std::string& description, const std::vector<std::string>& values, const std::string& fallback);
/// A fractional number as text: the API conventions forbid floats.
kube::Json Decimal(const std::string& description);
kube::Json Object(const std::string& description, kube::Json properties, const std::vector<std::string>& required = {});
kube::Json Map(const std::string& description, int most = 64);
/// Quantities by resource name ("cpu", "memory", "nvidia.com/gpu").
kube::Json Quantities(const std::string& description);
/// Kubernetes' own shape, passed on as it is.
kube::Json Opaque(const std::string& description);
/// With `key`, a list map (server-side apply merges it by that key), else atomic.
kube::Json ListOf(const std::string& description, kube::Json items, int most, const std::string& key = "");

kube::Json With(kube::Json schema, const std::string& key, kube::Json value);
kube::Json Default(kube::Json schema, kube::Json value);

}  // namespace anneal::api
