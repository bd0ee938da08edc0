// Hashes of bytes and files, as hexadecimal text.
#pragma once

#include <cstddef>
#include <string>

struct evp_md_ctx_st;

namespace anneal::io {

enum class Hash {
  kSha256,
  kMd5,  ///< for names only: TorchEasyRec's asset files carry it
};

class Digest {
 public:
  explicit Digest(Hash hash = Hash::kSha256);
  ~Digest();
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;
  void Update(const void* data, size_t bytes);
  std::string Hex();  ///< of everything so far; call it once

 private:
  evp_md_ctx_st* context_;
};

std::string TextSha256(const std::string& text);
/// Throws TemporaryError when the file cannot be read.
std::string FileDigest(const std::string& path, Hash hash);
inline std::string FileSha256(const std::string& path) { return FileDigest(path, Hash::kSha256); }

}  // namespace anneal::io
