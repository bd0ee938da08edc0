#include "worker/export/npz_file.h"

#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "worker/config/error.h"

// Layout: PKWARE's APPNOTE 6.3.10, sections 4.3 and 4.5.3; numpy.lib.format for the header of an array.
namespace anneal::exporting {
namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50,
                   kLocator64 = 0x07064b50;
constexpr uint16_t kVersion = 45, kZip64 = 1;  // zip64 needs version 4.5
constexpr uint32_t kElsewhere = 0xffffffff;    // the value stands in the zip64 part
constexpr size_t kLocalSize = 30;

struct TypeFacts {
  NpyType type;
  const char* descr;
  int64_t size;
};
constexpr TypeFacts kTypes[] = {
    {NpyType::kFloat32, "<f4", 4}, {NpyType::kUint8, "|u1", 1}, {NpyType::kInt64, "<i8", 8}};

const TypeFacts& Facts(NpyType type) {
  for (const auto& facts : kTypes) {
    if (facts.type == type) return facts;
  }
  return kTypes[0];
}

/// Little-endian numbers one after another.
class Bytes {
 public:
  template <typename T>
  Bytes& Add(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) text_ += static_cast<char>(value >> (8 * i) & 0xff);
    return *this;
  }
  Bytes& Text(const std::string& text) {
    text_ += text;
    return *this;
  }
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

std::string ArrayHeader(NpyType type, const std::vector<int64_t>& shape) {
  std::string dict = std::string("{'descr': '") + Facts(type).descr + "', 'fortran_order': False, 'shape': (";
  for (const int64_t extent : shape) dict += std::to_string(extent) + ", ";
  if (shape.size() > 1) dict.erase(dict.size() - 2);
  dict += "), }";
  while ((10 + dict.size() + 1) % 64 != 0) dict += ' ';
  dict += '\n';
  return Bytes()
      .Text("\x93NUMPY")
      .Add(uint8_t{1})
      .Add(uint8_t{0})
      .Add(static_cast<uint16_t>(dict.size()))
      .Text(dict)
      .str();
}

uint32_t Crc(uint32_t crc, const void* data, uint64_t bytes) {
  return static_cast<uint32_t>(crc32_z(crc, static_cast<const unsigned char*>(data), bytes));
}

template <typename T>
T Number(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace

NpzWriter::NpzWriter(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "wb")) {
  if (!file_) throw TemporaryError("cannot write " + path + ": " + std::strerror(errno));
}

NpzWriter::~NpzWriter() {
  if (file_) std::fclose(file_);
}

void NpzWriter::Put(const std::string& bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) {
    throw TemporaryError("cannot write " + path_ + ": " + std::strerror(errno));
  }
  at_ += bytes.size();
}

void NpzWriter::Add(const std::string& name, NpyType type, const std::vector<int64_t>& shape, const void* data) {
  uint64_t bytes = static_cast<uint64_t>(Facts(type).size);
  for (const int64_t extent : shape) bytes *= static_cast<uint64_t>(extent);
  const std::string header = ArrayHeader(type, shape);
  Entry entry{name + ".npy", Crc(Crc(0, header.data(), header.size()), data, bytes), header.size() + bytes, at_};
  Put(Bytes()
          .Add(kLocal)
          .Add(kVersion)
          .Add(uint16_t{0})
          .Add(uint16_t{0})
          .Add(uint32_t{0x00210000})
          .Add(entry.crc)
          .Add(kElsewhere)
          .Add(kElsewhere)
          .Add(static_cast<uint16_t>(entry.name.size()))
          .Add(uint16_t{20})
          .Text(entry.name)
          .Add(kZip64)
          .Add(uint16_t{16})
          .Add(entry.bytes)
          .Add(entry.bytes)
          .Text(header)
          .str());
  if (std::fwrite(data, 1, bytes, file_) != bytes) {
    throw TemporaryError("cannot write " + path_ + ": " + std::strerror(errno));
  }
  at_ += bytes;
  entries_.push_back(std::move(entry));
}

void NpzWriter::Finish() {
  const uint64_t directory = at_, count = entries_.size();
  for (const Entry& entry : entries_) {
    Put(Bytes()
            .Add(kCentral)
            .Add(kVersion)
            .Add(kVersion)
            .Add(uint16_t{0})
            .Add(uint16_t{0})
            .Add(uint32_t{0x00210000})
            .Add(entry.crc)
            .Add(kElsewhere)
            .Add(kElsewhere)
            .Add(static_cast<uint16_t>(entry.name.size()))
            .Add(uint16_t{28})
            .Add(uint16_t{0})
            .Add(uint16_t{0})
            .Add(uint16_t{0})
            .Add(uint32_t{0})
            .Add(kElsewhere)
            .Text(entry.name)
            .Add(kZip64)
            .Add(uint16_t{24})
            .Add(entry.bytes)
            .Add(entry.bytes)
            .Add(entry.offset)
            .str());
  }
  const uint64_t end = at_;
  Put(Bytes()
          .Add(kEnd64)
          .Add(uint64_t{44})
          .Add(kVersion)
          .Add(kVersion)
          .Add(uint32_t{0})
          .Add(uint32_t{0})
          .Add(count)
          .Add(count)
          .Add(end - directory)
          .Add(directory)
          .Add(kLocator64)
          .Add(uint32_t{0})
          .Add(end)
          .Add(uint32_t{1})
          .Add(kEnd)
          .Add(uint16_t{0})
          .Add(uint16_t{0})
          .Add(uint16_t{0xffff})
          .Add(uint16_t{0xffff})
          .Add(kElsewhere)
          .Add(kElsewhere)
          .Add(uint16_t{0})
          .str());
  const bool good = std::fflush(file_) == 0 && ::fsync(fileno(file_)) == 0;
  if (!good) throw TemporaryError("cannot write " + path_ + ": " + std::strerror(errno));
}

std::map<std::string, NpyArray> ReadNpz(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw DataError("cannot read " + path);
  std::map<std::string, NpyArray> arrays;
  std::string head(kLocalSize, '\0');
  while (in.read(head.data(), kLocalSize) && Number<uint32_t>(head.data()) == kLocal) {
    std::string name(Number<uint16_t>(&head[26]), '\0'), extra(Number<uint16_t>(&head[28]), '\0');
    in.read(name.data(), static_cast<std::streamsize>(name.size()));
    in.read(extra.data(), static_cast<std::streamsize>(extra.size()));
    if (extra.size() < 20 || !name.ends_with(".npy")) throw DataError(path + ": not an array file of an export");
    std::string bytes(Number<uint64_t>(&extra[12]), '\0');
    in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!in || Crc(0, bytes.data(), bytes.size()) != Number<uint32_t>(&head[14])) {
      throw DataError(path + ": " + name + " is damaged");
    }
    const size_t start = 10 + Number<uint16_t>(&bytes[8]);
    const std::string header = bytes.substr(10, start - 10);
    NpyArray array;
    for (const auto& facts : kTypes) {
      if (header.find(facts.descr) != std::string::npos) array.type = facts.type;
    }
    std::istringstream shape(header.substr(header.find('(') + 1));
    for (int64_t extent; shape >> extent; shape.ignore(1, ',')) array.shape.push_back(extent);
    array.bytes = bytes.substr(start);
    arrays.emplace(name.substr(0, name.size() - 4), std::move(array));
  }
  return arrays;
}

}  // namespace anneal::exporting
