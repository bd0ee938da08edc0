// What is wrong with a value, told without knowing where it stands.
#pragma once

#include <string>
#include <string_view>

namespace anneal::features {

/// Why a value was refused: the value and what is wrong with it. Whoever knows its row makes a DataError of it.
struct Refusal {
  std::string what;
};

/// `text` for a message: quoted, control characters as \x1d, cut after 80 characters.
inline std::string Shown(std::string_view text) {
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

}  // namespace anneal::features
