#include "operator/kube/watch_frames.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace anneal::kube {
namespace {

/// Builds a document from the parser's events. What stands under a field that is left out costs no memory.
class Builder {
 public:
  explicit Builder(Without without) : without_(without) {}
  Json root;

  bool null() { return Value(nullptr); }
  bool boolean(bool value) { return Value(value); }
  bool number_integer(int64_t value) { return Value(value); }
  bool number_unsigned(uint64_t value) { return Value(value); }
  bool number_float(double value, const std::string&) { return Value(value); }
  bool string(std::string& value) { return Value(std::move(value)); }
  bool binary(Json::binary_t&) { return false; }  // not in a text
  bool start_object(size_t) { return Open(Json::value_t::object); }
  bool start_array(size_t) { return Open(Json::value_t::array); }
  bool end_object() { return Close(); }
  bool end_array() { return Close(); }
  bool key(std::string& name) {
    if (left_out_ > 0) return true;
    if (name == "managedFields" || std::find(without_.begin(), without_.end(), name) != without_.end()) {
      next_is_left_out_ = true;
    } else {
      field_ = &(*open_.back())[name];
    }
    return true;
  }
  bool parse_error(size_t, const std::string&, const Json::exception&) { return false; }

 private:
  template <typename T>
  bool Value(T&& value) {
    if (left_out_ == 0 && !std::exchange(next_is_left_out_, false)) Place() = std::forward<T>(value);
    return true;
  }
  bool Open(Json::value_t type) {
    if (left_out_ > 0 || std::exchange(next_is_left_out_, false)) {
      ++left_out_;
      return true;
    }
    Json& place = Place();
    place = Json(type);
    open_.push_back(&place);
    return true;
  }
  bool Close() {
    if (left_out_ > 0) {
      --left_out_;
    } else {
      open_.pop_back();
    }
    return true;
  }
  /// Where the next value belongs.
  Json& Place() {
    if (open_.empty()) return root;
    return open_.back()->is_array() ? open_.back()->emplace_back() : *field_;
  }

  const Without without_;
  std::vector<Json*> open_;  ///< objects and arrays around, the innermost last; nothing else grows meanwhile
  Json* field_ = nullptr;    ///< of the innermost object
  int64_t left_out_ = 0;     ///< depth below a field that is left out
  bool next_is_left_out_ = false;
};

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
  Builder builder(without);
  const bool whole = Json::sax_parse(text, &builder);
  Json object = std::move(builder.root);
  if (!whole || !object.is_object()) throw ApiError(0, "BadFrame", "not a JSON object: " + text.substr(0, 200));
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
