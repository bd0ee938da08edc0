#include "worker/train/summary/event_writer.h"

#include <unistd.h>

#include <atomic>
#include <boost/crc.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "event.pb.h"
#include "worker/config/error.h"
#include "worker/train/summary/histogram.h"

namespace anneal::train {
namespace {

double Now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

// CRC-32C (Castagnoli), rotated and offset as TFRecord wants it, so that a CRC of data that holds CRCs stays good.
uint32_t MaskedCrc(const void* data, size_t size) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(data, size);
  const uint32_t sum = crc.checksum();
  return ((sum >> 15) | (sum << 17)) + 0xa282ead8u;
}

}  // namespace

EventWriter::EventWriter(const std::string& folder) {
  static std::atomic<int> number{0};
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  char host[256] = "localhost";
  ::gethostname(host, sizeof host - 1);
  path_ = folder + "/events.out.tfevents." + std::to_string(std::time(nullptr)) + "." + host + "." +
          std::to_string(::getpid()) + "." + std::to_string(number++);
  file_ = std::fopen(path_.c_str(), "wbe");
  if (!file_) throw TemporaryError("cannot write " + path_ + ": " + std::strerror(errno));
  summary::Event event;
  event.set_wall_time(Now());
  event.set_file_version("brain.Event:2");
  Record(event.SerializeAsString());
  Flush();
}

EventWriter::~EventWriter() { std::fclose(file_); }

void EventWriter::Scalar(const std::string& tag, double value, int64_t step) {
  summary::Event event;
  event.set_wall_time(Now());
  event.set_step(step);
  auto* entry = event.mutable_summary()->add_value();
  entry->set_tag(tag);
  entry->set_simple_value(static_cast<float>(value));
  Record(event.SerializeAsString());
}

void EventWriter::Histogram(const std::string& tag, std::span<const float> values, int64_t step) {
  const auto histogram = MakeHistogram(values);
  summary::Event event;
  event.set_wall_time(Now());
  event.set_step(step);
  auto* entry = event.mutable_summary()->add_value();
  entry->set_tag(tag);
  auto* histo = entry->mutable_histo();
  histo->set_min(histogram.min);
  histo->set_max(histogram.max);
  histo->set_num(histogram.count);
  histo->set_sum(histogram.sum);
  histo->set_sum_squares(histogram.sum_of_squares);
  for (const double limit : histogram.limits) histo->add_bucket_limit(limit);
  for (const double count : histogram.counts) histo->add_bucket(count);
  Record(event.SerializeAsString());
}

void EventWriter::Flush() { std::fflush(file_); }

// Frame: length, CRC of the length, data, CRC of the data. A summary that cannot be written does not end the run.
void EventWriter::Record(const std::string& event) {
  const uint64_t length = event.size();
  const uint32_t length_crc = MaskedCrc(&length, sizeof length), data_crc = MaskedCrc(event.data(), event.size());
  std::string frame;
  frame.append(reinterpret_cast<const char*>(&length), sizeof length);
  frame.append(reinterpret_cast<const char*>(&length_crc), sizeof length_crc);
  frame.append(event);
  frame.append(reinterpret_cast<const char*>(&data_crc), sizeof data_crc);
  std::fwrite(frame.data(), 1, frame.size(), file_);
}

}  // namespace anneal::train
