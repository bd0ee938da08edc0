#include "worker/config/name_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "worker/config/error.h"

namespace anneal::config {

NamePattern::NamePattern(const std::string& pattern) : pattern_(pattern) {
  int number = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_ANCHORED | PCRE2_ENDANCHORED, &number, &offset, nullptr);
  if (!code) {
    PCRE2_UCHAR message[256];
    pcre2_get_error_message(number, message, sizeof message);
    error_ = "'" + pattern + "' is not a regular expression: " + reinterpret_cast<const char*>(message) +
             " at character " + std::to_string(offset + 1);
    return;
  }
  code_.reset(code, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); });
}

bool NamePattern::Matches(const std::string& name) const {
  if (!code_) return false;
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(
      pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free);
  const int found =
      pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, 0, data.get(), nullptr);
  if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
    throw ConfigError("the regular expression '" + pattern_ + "' takes too long on '" + name + "'");
  }
  return found >= 0;
}

}  // namespace anneal::config
