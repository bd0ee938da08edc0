#include "worker/io/digest.h"

#include <openssl/evp.h>

#include <fstream>
#include <vector>

#include "worker/config/error.h"

namespace anneal::io {

Digest::Digest(Hash hash) : context_(EVP_MD_CTX_new()) {
  EVP_DigestInit_ex(context_, hash == Hash::kSha256 ? EVP_sha256() : EVP_md5(), nullptr);
}

Digest::~Digest() { EVP_MD_CTX_free(context_); }
void Digest::Update(const void* data, size_t bytes) { EVP_DigestUpdate(context_, data, bytes); }

std::string Digest::Hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(context_, digest, &size);
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += {kDigits[digest[i] >> 4], kDigits[digest[i] & 15]};
  return hex;
}

std::string TextSha256(const std::string& text) {
  Digest digest;
  digest.Update(text.data(), text.size());
  return digest.Hex();
}

std::string FileDigest(const std::string& path, Hash hash) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw TemporaryError("cannot read " + path);
  Digest digest(hash);
  std::vector<char> buffer(1 << 20);
  while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || in.gcount() > 0) {
    digest.Update(buffer.data(), static_cast<size_t>(in.gcount()));
  }
  if (in.bad()) throw TemporaryError("cannot read " + path);
  return digest.Hex();
}

}  // namespace anneal::io
