#include "worker/export/npz_file.h"

#include <libdeflate.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <optional>
#include <sstream>
#include <string_view>

#include "worker/config/error.h"

// Layout: PKWARE's APPNOTE 6.3.10, sections 4.3 and 4.5.3; numpy.lib.format for the header of an array.
namespace anneal::exporting {
namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50,
                   kLocator64 = 0x07064b50;
constexpr uint16_t kVersion = 45, kZip64 = 1;  // zip64 needs version 4.5
constexpr uint32_t kElsewhere = 0xffffffff;    // the value stands in the zip64 part
constexpr size_t kLocalSize = 30;
constexpr std::string_view kSuffix = ".npy", kMagic = "\x93NUMPY";

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
      .Text(std::string(kMagic))
      .Add(uint8_t{1})
      .Add(uint8_t{0})
      .Add(static_cast<uint16_t>(dict.size()))
      .Text(dict)
      .str();
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

/// What is left of a file that is read from its beginning.
struct Cursor {
  const std::string& path;
  std::string_view bytes;

  std::string_view Take(uint64_t count) {
    if (count > bytes.size()) throw DataError(path + " ends in the middle: it was not written to its end");
    const std::string_view taken = bytes.substr(0, count);
    bytes.remove_prefix(count);
    return taken;
  }
};

/// "(3, 4), }" -> {3, 4}; nullopt for anything that is no tuple of sizes.
std::optional<std::vector<int64_t>> ParseShape(const std::string& text) {
  std::istringstream in(text);
  std::vector<int64_t> shape;
  char mark = 0;
  if (!(in >> mark) || mark != '(') return std::nullopt;
  while (in >> std::ws && in.peek() != ')') {
    int64_t extent = 0;
    if (!(in >> extent) || extent < 0) return std::nullopt;
    shape.push_back(extent);
    if (in >> std::ws && in.peek() == ',') in.get(mark);
  }
  return in ? std::optional(shape) : std::nullopt;
}

/// numpy.lib.format, version 1.0. `where` begins the message of an error.
NpyArray ParseArray(std::string_view bytes, const std::string& where) {
  const DataError foreign(where + " is not one of float32, uint8 or int64 in C order");
  if (bytes.size() < kMagic.size() + 4 || !bytes.starts_with(kMagic)) throw foreign;
  const size_t begin = kMagic.size() + 4, length = Number<uint16_t>(&bytes[begin - 2]);
  if (length > bytes.size() - begin) throw foreign;
  const std::string header(bytes.substr(begin, length));
  const auto type = std::find_if(std::begin(kTypes), std::end(kTypes), [&header](const TypeFacts& facts) {
    return header.find(std::string("'descr': '") + facts.descr + "'") != std::string::npos;
  });
  const size_t tuple = header.find("'shape': ");
  if (type == std::end(kTypes) || tuple == std::string::npos ||
      header.find("'fortran_order': False") == std::string::npos) {
    throw foreign;
  }
  const auto shape = ParseShape(header.substr(tuple + 9));
  if (!shape) throw foreign;
  int64_t wanted = type->size;
  bool too_large = false;
  for (const int64_t extent : *shape) too_large |= __builtin_mul_overflow(wanted, extent, &wanted);
  const std::string_view values = bytes.substr(begin + length);
  if (too_large || static_cast<uint64_t>(wanted) != values.size()) {
    throw DataError(where + " holds " + std::to_string(values.size()) + " bytes, which its shape does not fit");
  }
  return {type->type, *shape, std::string(values)};
}

}  // namespace

void NpzWriter::Add(const std::string& name, NpyType type, const std::vector<int64_t>& shape, const void* data) {
  uint64_t bytes = static_cast<uint64_t>(Facts(type).size);
  for (const int64_t extent : shape) bytes *= static_cast<uint64_t>(extent);
  const std::string header = ArrayHeader(type, shape);
  uint32_t crc = libdeflate_crc32(0, header.data(), header.size());
  if (bytes > 0) crc = libdeflate_crc32(crc, data, bytes);  // of a null pointer it would be that of nothing
  NpzEntry entry{name + ".npy", crc, header.size() + bytes, static_cast<uint64_t>(file_.bytes())};
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
  const checkpoint::MappedFile file(path);
  Cursor rest{path, {file.data(), file.size()}};
  std::map<std::string, NpyArray> arrays;
  while (rest.bytes.size() >= sizeof kLocal && Number<uint32_t>(rest.bytes.data()) == kLocal) {
    const auto head = rest.Take(kLocalSize);
    const auto name = rest.Take(Number<uint16_t>(&head[26])), extra = rest.Take(Number<uint16_t>(&head[28]));
    if (extra.size() < 20 || !name.ends_with(kSuffix)) throw DataError(path + ": not an array file of an export");
    const auto bytes = rest.Take(Number<uint64_t>(&extra[12]));
    const std::string array(name.substr(0, name.size() - kSuffix.size()));
    if (libdeflate_crc32(0, bytes.data(), bytes.size()) != Number<uint32_t>(&head[14])) {
      throw DataError(path + ": array '" + array + "' is damaged");
    }
    arrays.emplace(array, ParseArray(bytes, path + ": array '" + array + "'"));
  }
  // The directory of the arrays follows; a file that ends before it was not written to its end.
  if (rest.bytes.size() < sizeof kCentral || Number<uint32_t>(rest.bytes.data()) != kCentral) {
    throw DataError(path + " ends in the middle: it was not written to its end");
  }
  return arrays;
}

}  // namespace anneal::exporting
