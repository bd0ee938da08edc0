// TensorBoard event files: TFRecord frames of tensorflow.Event messages (scalars, histograms).
// Format: https://github.com/tensorflow/tensorboard (event_file_writer), record framing with masked CRC-32C.
#pragma once

#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

namespace anneal::train {

class EventWriter {
 public:
  /// Opens events.out.tfevents.<seconds>.<host>.<pid>.<n> in `folder`, which is created. Throws TemporaryError.
  explicit EventWriter(const std::string& folder);
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  void Scalar(const std::string& tag, double value, int64_t step);
  void Histogram(const std::string& tag, std::span<const float> values, int64_t step);
  void Flush();

 private:
  void Record(const std::string& event);

  std::string path_;
  std::FILE* file_ = nullptr;
};

}  // namespace anneal::train
