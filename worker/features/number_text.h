// Numbers written as text, strictly: the whole text must be the number, no blanks, no '+'.
#pragma once

#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>

namespace anneal::features {

/// Reads all of `text` as a number. False when it is none, or too large for the type; `value` is then unchanged. What
/// is too small for it is 0.
template <typename Number>
requires std::integral<Number> || std::floating_point<Number>
bool ParseNumber(std::string_view text, Number* value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *value);
  if (stop != end) return false;
  if constexpr (std::floating_point<Number>) {
    // from_chars does not say which end of the range was passed.
    if (error == std::errc::result_out_of_range && std::abs(std::strtod(std::string(text).c_str(), nullptr)) < 1) {
      *value = 0;
      return true;
    }
  }
  return error == std::errc();
}

/// Calls each(part) for every part of `text` between separators; "a||b" has an empty part. Stops early when `each`
/// returns false. `separator` must not be empty.
template <typename Each>
void SplitText(std::string_view text, std::string_view separator, Each&& each) {
  for (;;) {
    const size_t at = separator.size() == 1 ? text.find(separator.front()) : text.find(separator);
    if (at == std::string_view::npos) break;
    if (!each(text.substr(0, at))) return;
    text.remove_prefix(at + separator.size());
  }
  each(text);
}

}  // namespace anneal::features
