#include "operator/kube/watch_frames.h"

namespace anneal::kube {

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

Json ParseObject(const std::string& text) {
  const auto keep = [](int, Json::parse_event_t event, Json& parsed) {
    return !(event == Json::parse_event_t::key && parsed == "managedFields");
  };
  Json object = Json::parse(text, keep, false);
  if (!object.is_object()) throw ApiError(0, "BadFrame", "not a JSON object: " + text.substr(0, 200));
  return object;
}

std::optional<WatchEvent> ParseWatchFrame(const std::string& frame) {
  Json event = ParseObject(frame);
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
