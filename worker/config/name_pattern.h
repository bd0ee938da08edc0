// Regular expressions that have to match a whole name, as Python's re.fullmatch (parity/train.md 12).
#pragma once

#include <memory>
#include <string>

namespace anneal::config {

/// A pattern in Perl's syntax, which is Python's in all but rare cases (PCRE2).
class NamePattern {
 public:
  explicit NamePattern(const std::string& pattern);
  /// Why the pattern is no regular expression; empty when it is one.
  const std::string& error() const { return error_; }
  /// False for a pattern with an error. Throws ConfigError when matching exceeds PCRE2's limits.
  bool Matches(const std::string& name) const;

 private:
  std::shared_ptr<void> code_;
  std::string pattern_, error_;
};

}  // namespace anneal::config
