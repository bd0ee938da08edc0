// Reads the scalars of TensorBoard event files, independently of the writer: own framing, own wire format.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>

namespace anneal::tests {

/// Protobuf wire format, as far as events need it.
class WireReader {
 public:
  explicit WireReader(const std::string& bytes) : bytes_(bytes) {}
  bool more() const { return at_ < bytes_.size(); }
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes_.at(at_++));
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw std::runtime_error("varint too long");
  }
  std::string Bytes(size_t count) {
    if (count > bytes_.size() - at_) throw std::runtime_error("message cut off");
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }

 private:
  const std::string bytes_;
  size_t at_ = 0;
};

/// All scalars of the event files directly in `folder`: (tag, step) -> value.
inline std::map<std::pair<std::string, int64_t>, double> ReadScalars(const std::filesystem::path& folder) {
  std::map<std::pair<std::string, int64_t>, double> scalars;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename().string().rfind("events.out.tfevents.", 0) != 0) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    for (;;) {
      uint64_t length = 0;
      if (!in.read(reinterpret_cast<char*>(&length), 8)) break;
      in.ignore(4);
      std::string event(length, '\0');
      if (!in.read(event.data(), static_cast<std::streamsize>(length))) throw std::runtime_error("record cut off");
      in.ignore(4);
      int64_t step = 0;
      WireReader reader(event);
      while (reader.more()) {
        const uint64_t key = reader.Varint();
        if (key == (2 << 3)) {
          step = static_cast<int64_t>(reader.Varint());
        } else if ((key & 7) == 1) {
          reader.Bytes(8);
        } else if ((key & 7) == 0) {
          reader.Varint();
        } else if (key == (5 << 3 | 2)) {
          WireReader summary(reader.Bytes(reader.Varint()));
          while (summary.more()) {
            summary.Varint();
            WireReader value(summary.Bytes(summary.Varint()));
            std::string tag;
            float number = 0;
            while (value.more()) {
              const uint64_t field = value.Varint();
              if (field == (1 << 3 | 2)) {
                tag = value.Bytes(value.Varint());
              } else if (field == (2 << 3 | 5)) {
                std::memcpy(&number, value.Bytes(4).data(), 4);
              } else {
                throw std::runtime_error("unexpected field in a summary value");
              }
            }
            scalars[{tag, step}] = number;
          }
        } else {
          reader.Bytes(reader.Varint());
        }
      }
    }
  }
  return scalars;
}

}  // namespace anneal::tests
