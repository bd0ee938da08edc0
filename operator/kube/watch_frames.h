// Watch streams: JSON objects separated by newlines, cut anywhere by TCP.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "operator/kube/api.h"

namespace anneal::kube {

/// Collects bytes and gives back whole lines.
class FrameSplitter {
 public:
  /// A frame longer than `limit` bytes makes Take throw ApiError(0, "BadFrame"): a stream without newlines must not
  /// eat the memory.
  explicit FrameSplitter(size_t limit = 32u << 20) : limit_(limit) {}
  void Feed(const char* data, size_t size) { buffer_.append(data, size); }
  /// The next whole frame, without its newline; empty lines are skipped.
  std::optional<std::string> Take();

 private:
  size_t limit_, searched_ = 0;
  std::string buffer_;
};

/// Names of fields that are left out, wherever they stand, and never built.
using Without = std::span<const std::string_view>;

/// One frame as an event; nullopt for types of newer servers. ApiError(0, "BadFrame") for what is no watch event.
std::optional<WatchEvent> ParseWatchFrame(const std::string& frame, Without without = {});

/// JSON without metadata.managedFields (a fifth to a quarter of an object, never needed). ApiError(0, "BadFrame") when
/// malformed.
Json ParseObject(const std::string& text, Without without = {});

}  // namespace anneal::kube
