#include "operator/kube/watch_frames.h"

#include <simdjson.h>

#include <algorithm>

namespace anneal::kube {
namespace {

constexpr size_t kLargeText = 256 << 10;
constexpr int kDeepest = 500;

bool LeftOut(std::string_view name, Without without) {
  return name == "managedFields" || std::find(without.begin(), without.end(), name) != without.end();
}

/// The document but for what stands under those names, of which nothing is built.
Json Build(const simdjson::dom::element& from, Without without) {
  switch (from.type()) {
    case simdjson::dom::element_type::OBJECT: {
      Json object = Json::object();
      for (const auto& [name, value] : simdjson::dom::object(from)) {
        if (LeftOut(name, without)) continue;
        object[std::string(name)] = Build(value, without);
      }
      return object;
    }
    case simdjson::dom::element_type::ARRAY: {
      Json array = Json::array();
      for (const simdjson::dom::element& value : simdjson::dom::array(from)) array.push_back(Build(value, without));
      return array;
    }
    case simdjson::dom::element_type::STRING:
      return std::string_view(from);
    case simdjson::dom::element_type::INT64:
      return int64_t(from);
    case simdjson::dom::element_type::UINT64:
      return uint64_t(from);
    case simdjson::dom::element_type::DOUBLE:
      return double(from);
    case simdjson::dom::element_type::BOOL:
      return bool(from);
    case simdjson::dom::element_type::NULL_VALUE:
      break;
  }
  return nullptr;
}

}  // namespace

std::optional<std::string> FrameSplitter::Take() {
  for (;;) {
    const size_t end = buffer_.find('\n', searched_);
    if (end == std::string::npos) {
      searched_ = buffer_.size();
      if (buffer_.size() > limit_) {
        throw ApiError(0, "BadFrame", "a watch frame is longer than " + std::to_string(limit_) + " bytes");
      }
      return std::nullopt;
    }
    std::string frame = buffer_.substr(0, end);
    buffer_.erase(0, end + 1);
    searched_ = 0;
    if (frame.find_first_not_of(" \t\r") != std::string::npos) return frame;
  }
}

Json ParseObject(const std::string& text, Without without) {
  // Kept for the many small texts; its buffers are many times as large as the largest one was.
  thread_local simdjson::dom::parser parser;
  simdjson::dom::element document;
  Json object;
  if (parser.parse(text).get(document) == simdjson::SUCCESS) {
    object = Build(document, without);
  } else {
    // Numbers beyond 64 bits and very deep objects are JSON, too: one such object must not stop a list. What is deeper
    // than anything that is read is left out: copies and comparisons go down as far.
    object = Json::parse(
        text,
        [&](int depth, Json::parse_event_t event, const Json& name) {
          if (depth > kDeepest) return false;
          return event != Json::parse_event_t::key || !LeftOut(name.get_ref<const std::string&>(), without);
        },
        false);
  }
  if (text.size() > kLargeText) parser = simdjson::dom::parser();
  if (!object.is_object()) throw ApiError(0, "BadFrame", "not a JSON object: " + text.substr(0, 200));
  return object;
}

std::optional<WatchEvent> ParseWatchFrame(const std::string& frame, Without without) {
  Json event = ParseObject(frame, without);
  if (!event.contains("type") || !event["type"].is_string() || !event.contains("object") ||
      !event["object"].is_object()) {
    throw ApiError(0, "BadFrame", "not a watch event: " + frame.substr(0, 200));
  }
  const std::string type = event["type"];
  Json& object = event["object"];
  const bool error = type == "ERROR";
  if (!error && (!object.contains("metadata") || !object["metadata"].is_object())) {
    throw ApiError(0, "BadFrame", "a watch event without metadata: " + frame.substr(0, 200));
  }
  if (error) return WatchEvent{EventType::kError, std::move(object)};
  if (type == "ADDED") return WatchEvent{EventType::kAdded, std::move(object)};
  if (type == "MODIFIED") return WatchEvent{EventType::kModified, std::move(object)};
  if (type == "DELETED") return WatchEvent{EventType::kDeleted, std::move(object)};
  if (type == "BOOKMARK") return WatchEvent{EventType::kBookmark, std::move(object)};
  return std::nullopt;
}

}  // namespace anneal::kube
