#include "worker/io/publish.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "worker/config/error.h"
#include "worker/io/digest.h"
#include "worker/train/progress/log.h"

namespace anneal::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr size_t kThreads = 4;
constexpr size_t kDigestLength = 12;  // of the version's name

struct File {
  std::string name, path, sha256;
  int64_t bytes = 0;
};

struct Stamp {
  int64_t bytes = 0;
  fs::file_time_type changed;
  bool operator==(const Stamp&) const = default;
};
/// Of each file, by path below the folder.
using Stamps = std::map<std::string, Stamp>;
Stamps StampsOf(const std::string& folder) {
  Stamps stamps;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_directory() && !entry.is_symlink()) continue;
    if (!entry.exists()) throw TemporaryError(entry.path().string() + ": what it links to is gone");
    if (!entry.is_regular_file()) {
      throw DataError(entry.path().string() + " is neither a file nor a folder: nothing is published");
    }
    stamps[entry.path().lexically_relative(folder).string()] = {static_cast<int64_t>(entry.file_size()),
                                                                entry.last_write_time()};
  }
  return stamps;
}

FileHashes HashesOf(const std::string& folder, const Stamps& stamps) {
  FileHashes hashes;
  for (const auto& [name, stamp] : stamps) hashes[name] = FileSha256(fs::path(folder) / name);
  return hashes;
}

/// Lines about the bytes that are done, at most one in two seconds.
class ProgressLine {
 public:
  explicit ProgressLine(int64_t total) : total_(total) {}
  void Add(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    done_ += bytes;
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::seconds(2)) return;
    last_ = now;
    const double seconds = std::chrono::duration<double>(now - start_).count(), mib = 1 << 20;
    char text[128];
    std::snprintf(text, sizeof text, "Publishing: %.0f %%, %.1f of %.1f MiB, %.1f MiB/s",
                  100.0 * static_cast<double>(done_) / static_cast<double>(std::max<int64_t>(total_, 1)),
                  static_cast<double>(done_) / mib, static_cast<double>(total_) / mib,
                  static_cast<double>(done_) / mib / seconds);
    LogLive(text);
  }

 private:
  std::mutex mutex_;
  const int64_t total_;
  int64_t done_ = 0;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_ = start_;
};

/// Whether the store holds these very bytes.
bool IsThere(ObjectStore& store, const std::string& object, const File& file) {
  if (store.Size(object) != file.bytes) return false;
  Digest digest;
  store.Read(object, [&digest](std::string_view piece) { digest.Update(piece.data(), piece.size()); });
  return digest.Hex() == file.sha256;
}

/// Sends what is not there, several files at once, the largest first. Returns the bytes sent.
int64_t Send(std::vector<File> files, ObjectStore& store, const std::string& version, ProgressLine& line) {
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) { return a.bytes > b.bytes; });
  std::atomic<size_t> next{0};
  std::atomic<int64_t> sent{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    try {
      for (size_t i; (i = next++) < files.size();) {
        const std::string object = version + "/" + files[i].name;
        if (IsThere(store, object, files[i])) {
          line.Add(files[i].bytes);
          continue;
        }
        store.Put(object, files[i].path, [&line](int64_t bytes) { line.Add(bytes); });
        sent += files[i].bytes;
      }
    } catch (...) {
      next = files.size();  // the others end with what they have in hand
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < std::min(kThreads, files.size()); ++i) threads.emplace_back(work);
  for (auto& thread : threads) thread.join();
  LogLive("");
  if (failure) std::rethrow_exception(failure);
  return sent;
}

}  // namespace

FileHashes HashFiles(const std::string& folder) { return HashesOf(folder, StampsOf(folder)); }

void CheckOutside(const std::string& folder, const ObjectStore& store) {
  const std::string uri = store.Uri(""), scheme = "file://";
  if (!uri.starts_with(scheme)) return;
  std::error_code error;  // a place that cannot be looked at is the store's to tell
  const fs::path target = fs::weakly_canonical(uri.substr(scheme.size()), error);
  const fs::path inner = error ? fs::path() : target.lexically_relative(fs::weakly_canonical(folder, error));
  if (!error && !inner.empty() && *inner.begin() != "..") {
    throw ConfigError(uri + " lies in " + folder + ", which is to be published: choose another folder");
  }
}

Published Publish(const std::string& folder, ObjectStore& store, const ordered_json& about,
                  const FileHashes& expected) {
  CheckOutside(folder, store);
  const Stamps before = StampsOf(folder);
  const FileHashes hashes = HashesOf(folder, before);
  for (const auto& [name, sha256] : expected) {
    const auto found = hashes.find(name);
    if (found != hashes.end() && found->second == sha256) continue;
    throw DataError((fs::path(folder) / name).string() + (found == hashes.end() ? " is missing" : " has changed") +
                    " since it was checked: nothing is published");
  }
  std::vector<File> files;
  ordered_json list = ordered_json::array();
  Published published;
  for (const auto& [name, sha256] : hashes) {
    files.push_back({name, fs::path(folder) / name, sha256, before.at(name).bytes});
    list.push_back({{"path", name}, {"bytes", files.back().bytes}, {"sha256", sha256}});
    published.bytes += files.back().bytes;
  }
  const std::string name =
      about.at("step").dump() + "-" + TextSha256(list.dump() + about.dump()).substr(0, kDigestLength);
  ordered_json manifest = {{"version", name}};
  manifest.update(about);
  manifest["bytes"] = published.bytes;
  manifest["files"] = list;
  const std::string text = manifest.dump(1) + "\n", version = "versions/" + name;
  published.sha256 = TextSha256(text);
  published.uri = store.Uri(version);
  ProgressLine line(published.bytes);
  published.sent = Send(files, store, version, line);
  // What was sent is what was hashed, or the version stays without a manifest.
  if (StampsOf(folder) != before)
    throw DataError(folder + " has changed while it was published: the pointer stays where it was");
  store.PutText(version + "/MANIFEST.json", text);
  store.PutText("latest",
                ordered_json{{"version", name}, {"path", version}, {"sha256", published.sha256}}.dump(1) + "\n");
  return published;
}

}  // namespace anneal::io
