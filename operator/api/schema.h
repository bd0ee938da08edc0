// The one definition of TrainJob, EvalJob and ExportJob: OpenAPI schemas with descriptions, defaults and bounds, and
// the rules between fields. From it come crds/*.yaml, the defaulting and checking of the embedded API server, and the
// field reference in the docs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "operator/kube/api.h"

namespace anneal::api {

/// A rule between fields: CEL for the API server, the same check in C++ for the embedded mode.
struct Rule {
  std::string path;  ///< below spec, "" = spec itself
  std::string cel;   ///< on `self` at that path
  std::string message;
  std::function<bool(const kube::Json& spec)> holds;  ///< on the whole defaulted spec
};

struct PrinterColumn {
  std::string name, type, json_path;
  int priority = 0;
};

struct Kind {
  kube::Resource resource;
  std::string singular, short_name, description;
  kube::Json spec;  ///< OpenAPI schema of spec
  std::vector<Rule> rules;
  std::vector<PrinterColumn> columns;
};

/// TrainJob, EvalJob, ExportJob.
const std::vector<Kind>& Kinds();
const Kind* FindKind(const kube::Resource& resource);

/// Fills defaults and checks a job; other objects pass unchanged. Throws ApiError 422 listing every faulty field with
/// its path.
kube::Json DefaultAndValidate(const kube::Resource& resource, kube::Json object);

/// What is left of a value without what its schema would fill in: equal for a spec that states a default and one that
/// does not, and for a spec stored before a field existed.
kube::Json WithoutDefaults(const kube::Json& schema, const kube::Json& value);

/// OpenAPI schema of a kind's status.
kube::Json StatusSchema(const Kind& kind);
/// docs/api/<plural>.md: every field, rule and column.
std::string ApiReference(const Kind& kind);

/// The CustomResourceDefinition of a kind, and the text of its crds/ file.
kube::Json CustomResourceDefinition(const Kind& kind);
std::string CrdYaml(const Kind& kind);

}  // namespace anneal::api
