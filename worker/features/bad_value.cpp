#include "worker/features/bad_value.h"

#include "worker/config/error.h"

namespace anneal::features {

std::string Shown(std::string_view text) {
  constexpr size_t kMost = 80;
  constexpr char kHex[] = "0123456789abcdef";
  std::string result = "\"";
  for (const char c : text.substr(0, kMost)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      result += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      result += c;
    }
  }
  return result + (text.size() > kMost ? "...\"" : "\"");
}

void ThrowBadValue(const data::RowSlice& slice, int64_t row, const std::string& column, const std::string& feature,
                   const std::string& what) {
  throw DataError(data::Where(slice, row) + ", column " + column + ": " + what + " (feature " + feature + ")");
}

}  // namespace anneal::features
