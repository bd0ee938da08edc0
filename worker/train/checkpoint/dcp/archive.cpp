#include "worker/train/checkpoint/dcp/archive.h"

#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <libdeflate.h>

#include <algorithm>
#include <cstring>

#include "worker/config/error.h"
#include "worker/train/checkpoint/archive_sink.h"

namespace anneal::checkpoint::dcp {
namespace {

using caffe2::serialize::PyTorchStreamReader;
using caffe2::serialize::PyTorchStreamWriter;

class InMemory : public caffe2::serialize::ReadAdapterInterface {
 public:
  explicit InMemory(std::string_view bytes) : bytes_(bytes) {}
  size_t size() const override { return bytes_.size(); }
  size_t read(uint64_t at, void* to, size_t count, const char*) const override {
    if (at >= bytes_.size()) return 0;
    count = std::min<size_t>(count, bytes_.size() - at);
    std::memcpy(to, bytes_.data() + at, count);
    return count;
  }

 private:
  std::string_view bytes_;
};

uint32_t Word(std::string_view bytes, size_t at) {
  uint32_t word = 0;
  if (at + sizeof word <= bytes.size()) std::memcpy(&word, bytes.data() + at, sizeof word);
  return word;
}

}  // namespace

struct Archive::Reader {
  explicit Reader(std::string_view bytes) : zip(std::make_shared<InMemory>(bytes)) {}
  PyTorchStreamReader zip;
};

Archive::Archive(std::string_view bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {
  try {
    reader_ = std::make_unique<Reader>(bytes);
  } catch (const c10::Error& error) {
    throw DataError(name_ + ": a damaged archive: " + std::string(error.what_without_backtrace()).substr(0, 200));
  }
}

Archive::~Archive() = default;

std::string_view Archive::View(const std::string& record) const {
  const auto fail = [&](const std::string& what) { throw DataError(name_ + ": record " + record + " " + what); };
  size_t header = 0, begin = 0, size = 0;
  try {
    if (!reader_->zip.hasRecord(record)) fail("is missing");
    size = reader_->zip.getRecordSize(record);
    header = reader_->zip.getRecordHeaderOffset(record);
    begin = reader_->zip.getRecordOffset(record);
  } catch (const c10::Error& error) {
    fail("is damaged: " + std::string(error.what_without_backtrace()).substr(0, 200));
  }
  if (header > bytes_.size() || bytes_.size() - header < 30 || begin > bytes_.size() || size > bytes_.size() - begin) {
    fail("lies outside its archive");
  }
  // LibTorch's reader verifies no checksums. In the local header: flags at 6, method at 8, CRC-32 at 14; with flag 3
  // the CRC-32 follows the data, behind a signature (APPNOTE.TXT 4.3.7, 4.3.9).
  const uint32_t flags_and_method = Word(bytes_, header + 6);
  if ((flags_and_method >> 16) != 0) fail("is compressed");
  uint32_t checksum = Word(bytes_, header + 14);
  if (flags_and_method & 8) {
    constexpr uint32_t kSignature = 0x08074b50;
    const size_t after = begin + size;
    checksum = Word(bytes_, Word(bytes_, after) == kSignature ? after + 4 : after);
  }
  const std::string_view view = bytes_.substr(begin, size);
  if (libdeflate_crc32(0, view.data(), view.size()) != checksum) {
    fail("has another checksum than the archive says: the file is damaged");
  }
  return view;
}

void WriteArchive(const std::string& pickle, const void* storage, int64_t bytes,
                  const std::function<void(const void*, size_t)>& write) {
  ArchiveSink sink(write);
  PyTorchStreamWriter zip(std::ref(sink));
  zip.writeRecord("data.pkl", pickle.data(), pickle.size());
  zip.writeRecord("byteorder", "little", 6);
  if (bytes >= 0) zip.writeRecord("data/0", storage, static_cast<size_t>(bytes));
  zip.writeEndOfFile();
  sink.Finish();
}

}  // namespace anneal::checkpoint::dcp
