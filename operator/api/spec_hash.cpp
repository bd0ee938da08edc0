#include "operator/api/spec_hash.h"

#include <openssl/evp.h>

#include "operator/api/schema.h"

namespace anneal::api {

std::string Sha256(const std::string& bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    char pair[3];
    std::snprintf(pair, sizeof pair, "%02x", digest[i]);
    hex += pair;
  }
  return hex;
}

std::string SpecHash(const kube::Resource& resource, const kube::Json& spec, const kube::Json& inputs) {
  const Kind* kind = FindKind(resource);
  kube::Json run = kind ? WithoutDefaults(kind->spec, spec) : spec;
  for (const char* live : kLiveFields) run.erase(live);
  // Object keys are sorted, so equal specs give equal text.
  return "v1:" + Sha256(kube::Json{{"spec", run}, {"inputs", inputs}}.dump());
}

}  // namespace anneal::api
