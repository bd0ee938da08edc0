#include "worker/io/publish.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "worker/config/error.h"
#include "worker/train/checkpoint/safetensors.h"

namespace anneal::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string VersionName(int64_t step) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[64];
  std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &parts);
  return std::to_string(step) + "-" + text;
}

/// Copies one file, synced, and reads it back.
void CopyVerified(const fs::path& from, const fs::path& to, const std::string& sha256) {
  std::ifstream in(from, std::ios::binary);
  if (!in) throw TemporaryError("cannot read " + from.string());
  std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  fs::create_directories(to.parent_path());
  checkpoint::WriteFileSynced(to, bytes);
  if (FileSha256(to) != sha256) throw TemporaryError("the copy " + to.string() + " reads back different from " + from.string());
}

}  // namespace

std::string FileSha256(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw TemporaryError("cannot read " + path);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  std::vector<char> buffer(1 << 20);
  while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || in.gcount() > 0) {
    EVP_DigestUpdate(context.get(), buffer.data(), static_cast<size_t>(in.gcount()));
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(context.get(), digest, &size);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    char pair[3];
    std::snprintf(pair, sizeof pair, "%02x", digest[i]);
    hex += pair;
  }
  return hex;
}

Published Publish(const std::string& folder, const std::string& uri, int64_t step) {
  if (!uri.starts_with("file:///")) throw ConfigError("--publish_uri '" + uri + "': only file:// URIs are supported yet");
  const fs::path root = uri.substr(7);
  std::error_code error;
  fs::create_directories(root / "versions", error);
  if (error) throw TemporaryError("cannot make " + (root / "versions").string() + ": " + error.message());
  // What a killed run left half copied.
  for (const auto& entry : fs::directory_iterator(root / "versions")) {
    if (entry.path().filename().string().ends_with(".unfinished")) fs::remove_all(entry.path(), error);
  }
  std::string version = VersionName(step);
  for (int n = 2; fs::exists(root / "versions" / version); ++n) version = VersionName(step) + "-" + std::to_string(n);
  const fs::path target = root / "versions" / version, copying = target.string() + ".unfinished";
  fs::create_directories(copying);
  Published published;
  json files = json::array();
  std::vector<fs::path> paths;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  for (const fs::path& path : paths) {
    const std::string name = fs::relative(path, folder).string(), sha256 = FileSha256(path);
    const int64_t size = static_cast<int64_t>(fs::file_size(path));
    CopyVerified(path, copying / name, sha256);
    files.push_back({{"path", name}, {"bytes", size}, {"sha256", sha256}});
    published.bytes += size;
  }
  const fs::path manifest = copying / "MANIFEST.json";
  checkpoint::WriteFileSynced(manifest, json{{"version", version}, {"step", step}, {"files", files}}.dump(1));
  published.sha256 = FileSha256(manifest);
  checkpoint::SyncFolder(copying);
  fs::rename(copying, target);
  checkpoint::SyncFolder(root / "versions");
  checkpoint::ReplaceFile(root / "latest", json{{"version", version}, {"path", "versions/" + version}, {"sha256", published.sha256}}.dump(1) + "\n");
  published.uri = "file://" + target.string();
  return published;
}

}  // namespace anneal::io
