#include "worker/export/npz_file.h"

#include <zlib.h>

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

/// What local header and directory say alike of an entry: version, flags, no compression, time, date, CRC-32, sizes,
/// lengths of name and zip64 part. Times are 1980-01-01: the same arrays are the same file.
Bytes Shared(const NpzEntry& entry, uint16_t zip64) {
  return Bytes()
      .Add(kVersion)
      .Add(uint16_t{0})
      .Add(uint16_t{0})
      .Add(uint32_t{0x00210000})
      .Add(entry.crc)
      .Add(kElsewhere)
      .Add(kElsewhere)
      .Add(static_cast<uint16_t>(entry.name.size()))
      .Add(zip64);
}

template <typename T>
T Number(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace

void NpzWriter::Add(const std::string& name, NpyType type, const std::vector<int64_t>& shape, const void* data) {
  uint64_t bytes = static_cast<uint64_t>(Facts(type).size);
  for (const int64_t extent : shape) bytes *= static_cast<uint64_t>(extent);
  const std::string header = ArrayHeader(type, shape);
  NpzEntry entry{name + ".npy", Crc(Crc(0, header.data(), header.size()), data, bytes), header.size() + bytes,
                 static_cast<uint64_t>(file_.bytes())};
  Put(Bytes()
          .Add(kLocal)
          .Text(Shared(entry, 20).str())
          .Text(entry.name)
          .Add(kZip64)
          .Add(uint16_t{16})
          .Add(entry.bytes)
          .Add(entry.bytes)
          .Text(header)
          .str());
  file_.Write(data, static_cast<int64_t>(bytes));
  entries_.push_back(std::move(entry));
}

void NpzWriter::Finish() {
  const uint64_t directory = file_.bytes(), count = entries_.size();
  for (const NpzEntry& entry : entries_) {
    Put(Bytes()
            .Add(kCentral)
            .Add(kVersion)
            .Text(Shared(entry, 28).str())
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
  const uint64_t end = file_.bytes();
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
  file_.Finish();
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
