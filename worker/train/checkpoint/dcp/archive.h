// A torch.save archive (a ZIP of stored records) inside a mapped file.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace anneal::checkpoint::dcp {

/// Reads an archive in place. Every call throws DataError naming the file for anything that is damaged, compressed or
/// outside; checksums are verified.
class Archive {
 public:
  /// `bytes` have to stay where they are.
  Archive(std::string_view bytes, std::string name);
  ~Archive();
  const std::string& name() const { return name_; }

  std::string_view View(const std::string& record) const;
  std::string Record(const std::string& record) const { return std::string(View(record)); }

 private:
  struct Reader;
  std::string_view bytes_;
  std::string name_;
  std::unique_ptr<Reader> reader_;
};

/// Writes an archive of a pickle and, when `bytes` is not negative, one storage "0" of that many bytes. `write` gets the
/// archive's bytes one after another.
void WriteArchive(const std::string& pickle, const void* storage, int64_t bytes,
                  const std::function<void(const void*, size_t)>& write);

}  // namespace anneal::checkpoint::dcp
