#include "worker/train/checkpoint/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"

namespace anneal::checkpoint {
namespace {

using nlohmann::json;

constexpr int64_t kMaxHeader = int64_t{100} << 20;  // the format's own bound

struct DTypeFacts {
  DType dtype;
  const char* name;
  int64_t size;
};
constexpr std::array<DTypeFacts, 8> kDTypes = {{{DType::kF32, "F32", 4},
                                                {DType::kF64, "F64", 8},
                                                {DType::kF16, "F16", 2},
                                                {DType::kBF16, "BF16", 2},
                                                {DType::kI64, "I64", 8},
                                                {DType::kI32, "I32", 4},
                                                {DType::kU8, "U8", 1},
                                                {DType::kBool, "BOOL", 1}}};

[[noreturn]] void FailWrite(const std::string& path) {
  throw TemporaryError("cannot write " + path + ": " + std::strerror(errno));
}

/// A file being written: keeps the checksum, removes nothing on failure (the folder is temporary).
class Writer {
 public:
  explicit Writer(const std::string& path) : path_(path) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd_ < 0) FailWrite(path);
  }
  ~Writer() {
    if (fd_ >= 0) ::close(fd_);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void Write(const void* data, int64_t bytes) {
    const auto* at = static_cast<const unsigned char*>(data);
    digest_.crc32 = static_cast<uint32_t>(crc32_z(digest_.crc32, at, static_cast<size_t>(bytes)));
    digest_.bytes += bytes;
    while (bytes > 0) {
      const ssize_t written = ::write(fd_, at, static_cast<size_t>(std::min<int64_t>(bytes, int64_t{1} << 30)));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) FailWrite(path_);
      at += written;
      bytes -= written;
    }
  }

  FileDigest Finish() {
    if (::fsync(fd_) != 0) FailWrite(path_);
    const int fd = std::exchange(fd_, -1);
    if (::close(fd) != 0) FailWrite(path_);
    return digest_;
  }

 private:
  std::string path_;
  int fd_ = -1;
  FileDigest digest_;
};

TensorView ParseEntry(const std::string& name, const json& entry, const char* data, int64_t size,
                      const std::string& where) {
  auto fail = [&](const std::string& what) -> void { throw DataError(where + ": tensor '" + name + "': " + what); };
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets")) {
    fail("needs dtype, shape and data_offsets");
  }
  TensorView view;
  view.name = name;
  const auto facts = std::find_if(kDTypes.begin(), kDTypes.end(),
                                  [&](const DTypeFacts& f) { return entry["dtype"] == f.name; });
  if (facts == kDTypes.end()) fail("dtype " + entry["dtype"].dump() + " is not known");
  view.dtype = facts->dtype;
  int64_t elements = 1;
  if (!entry["shape"].is_array()) fail("shape is not a list");
  for (const json& extent : entry["shape"]) {
    if (!extent.is_number_unsigned() || extent.get<uint64_t>() > (uint64_t{1} << 48)) fail("shape is not a list of sizes");
    view.shape.push_back(extent.get<int64_t>());
    if (__builtin_mul_overflow(elements, view.shape.back(), &elements)) fail("shape is too large");
  }
  const json& offsets = entry["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) {
    fail("data_offsets are not two numbers");
  }
  const uint64_t begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
  int64_t bytes = 0;
  if (__builtin_mul_overflow(elements, facts->size, &bytes)) fail("shape is too large");
  if (begin > end || end > static_cast<uint64_t>(size) || end - begin != static_cast<uint64_t>(bytes)) {
    fail("data_offsets do not fit shape and file");
  }
  view.data = data + begin;
  return view;
}

}  // namespace

const char* DTypeName(DType dtype) {
  for (const auto& facts : kDTypes) {
    if (facts.dtype == dtype) return facts.name;
  }
  return "?";
}

int64_t DTypeSize(DType dtype) {
  for (const auto& facts : kDTypes) {
    if (facts.dtype == dtype) return facts.size;
  }
  return 0;
}

int64_t TensorView::elements() const {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

FileDigest WriteSafetensors(const std::string& path, std::span<const TensorView> tensors) {
  json header = json::object();
  int64_t offset = 0;
  for (const TensorView& tensor : tensors) {
    header[tensor.name] = {{"dtype", DTypeName(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.bytes()}}};
    offset += tensor.bytes();
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  Writer writer(path);
  writer.Write(&length, sizeof length);
  writer.Write(text.data(), static_cast<int64_t>(text.size()));
  for (const TensorView& tensor : tensors) writer.Write(tensor.data, tensor.bytes());
  return writer.Finish();
}

void WriteFileSynced(const std::string& path, const std::string& bytes) {
  Writer writer(path);
  writer.Write(bytes.data(), static_cast<int64_t>(bytes.size()));
  writer.Finish();
}

void ReplaceFile(const std::string& path, const std::string& bytes) {
  const std::string temporary = path + ".tmp";
  try {
    WriteFileSynced(temporary, bytes);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) FailWrite(path);
  SyncFolder(std::filesystem::path(path).parent_path());
}

void SyncFolder(const std::string& path) {
  const int fd = ::open(path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) FailWrite(path);
  const int failed = ::fsync(fd);
  ::close(fd);
  if (failed != 0 && errno != EINVAL) FailWrite(path);  // EINVAL: a file system without folder sync
}

FileDigest DigestFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw DataError("cannot read " + path + ": " + std::strerror(errno));
  FileDigest digest;
  std::vector<unsigned char> buffer(4 << 20);
  for (;;) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int error = errno;
      ::close(fd);
      throw DataError("cannot read " + path + ": " + std::strerror(error));
    }
    if (got == 0) break;
    digest.crc32 = static_cast<uint32_t>(crc32_z(digest.crc32, buffer.data(), static_cast<size_t>(got)));
    digest.bytes += got;
  }
  ::close(fd);
  return digest;
}

SafetensorsFile::SafetensorsFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw DataError("cannot read " + path + ": " + std::strerror(errno));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size < 8) {
    ::close(fd);
    throw DataError(path + ": not a safetensors file (too short)");
  }
  size_ = static_cast<size_t>(info.st_size);
  map_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
  ::close(fd);
  if (map_ == MAP_FAILED) {
    map_ = nullptr;
    throw DataError("cannot map " + path + ": " + std::strerror(errno));
  }
  try {
    const char* base = static_cast<const char*>(map_);
    uint64_t length = 0;
    std::memcpy(&length, base, sizeof length);
    if (length > static_cast<uint64_t>(kMaxHeader) || length > size_ - 8) {
      throw DataError(path + ": not a safetensors file (header length " + std::to_string(length) + ")");
    }
    const json header = json::parse(base + 8, base + 8 + length, nullptr, /*allow_exceptions=*/false);
    if (!header.is_object()) throw DataError(path + ": the safetensors header is not a JSON object");
    const char* data = base + 8 + length;
    const int64_t data_size = static_cast<int64_t>(size_ - 8 - length);
    for (const auto& [name, entry] : header.items()) {
      if (name != "__metadata__") tensors_.emplace(name, ParseEntry(name, entry, data, data_size, path));
    }
  } catch (...) {
    ::munmap(map_, size_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() {
  if (map_) ::munmap(map_, size_);
}

}  // namespace anneal::checkpoint
