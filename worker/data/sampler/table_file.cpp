#include "worker/data/sampler/table_file.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "worker/config/error.h"
#include "worker/features/bad_value.h"
#include "worker/features/number_text.h"
#include "worker/features/string_hash.h"

namespace anneal::data {
namespace {

using features::Shown;

constexpr size_t kReadBytes = 1 << 18;

const char* TypesOf(TableFile::Kind kind, bool text_ids) {
  switch (kind) {
    case TableFile::Kind::kId:
      return text_ids ? "string" : "int64";
    case TableFile::Kind::kWeight:
      return "float";
    default:
      return "string";
  }
}

}  // namespace

bool TextNodeIds() {
  const char* text = std::getenv("USE_HASH_NODE_ID");
  return text != nullptr && std::string_view(text) == "1";
}

bool ReadNodeId(std::string_view text, bool text_ids, int64_t* id) {
  if (!text_ids) return features::ParseNumber(text, id);
  *id = static_cast<int64_t>(features::MurmurHash64A(text));
  return true;
}

TableFile::TableFile(const std::string& path, std::string delimiter, std::vector<Column> columns)
    : path_(path),
      delimiter_(std::move(delimiter)),
      columns_(std::move(columns)),
      text_ids_(TextNodeIds()),
      file_(std::fopen(path.c_str(), "rbe")),
      buffer_(kReadBytes) {
  if (file_ == nullptr) throw DataError(path_ + ": cannot be opened: " + std::strerror(errno));
  std::string_view header;
  if (!ReadLine(&header)) throw DataError(path_ + ": is empty; a header line is needed");
  Split(header);
  for (size_t i = 0; i < columns_.size(); ++i) {
    const size_t colon = cells_[i].rfind(':');
    const std::string_view type = colon == std::string_view::npos ? "" : cells_[i].substr(colon + 1);
    const std::string_view wanted = TypesOf(columns_[i].kind, text_ids_);
    if (type == wanted || (columns_[i].kind == Kind::kWeight && type == "double")) continue;
    const char* hint = columns_[i].kind != Kind::kId ? ""
                       : text_ids_                   ? " (as USE_HASH_NODE_ID is 1)"
                       : type == "string"            ? " (string with USE_HASH_NODE_ID=1)"
                                                     : "";
    Fail(i, Shown(cells_[i]) + " in the header is not <name>:" + std::string(wanted) + hint);
  }
}

bool TableFile::Next() {
  std::string_view line;
  if (!ReadLine(&line)) return false;
  Split(line);
  return true;
}

int64_t TableFile::Id(size_t column) const {
  int64_t id = 0;
  if (!ReadNodeId(cells_[column], text_ids_, &id)) Fail(column, Shown(cells_[column]) + " is not an int64");
  return id;
}

float TableFile::Weight(size_t column) const {
  float weight = 0;
  if (!features::ParseNumber(cells_[column], &weight)) Fail(column, Shown(cells_[column]) + " is not a number");
  if (!std::isfinite(weight)) Fail(column, Shown(cells_[column]) + " is not a finite number");
  if (weight < 0) Fail(column, Shown(cells_[column]) + " is negative");
  return weight;
}

bool TableFile::ReadLine(std::string_view* line) {
  for (size_t searched = 0;;) {
    const char* from = buffer_.data() + begin_;
    const auto* newline = static_cast<const char*>(std::memchr(from + searched, '\n', end_ - begin_ - searched));
    size_t length = newline != nullptr ? newline - from : end_ - begin_;
    if (newline == nullptr) {
      searched = length;
      if (begin_ > 0) std::memmove(buffer_.data(), from, length);
      begin_ = 0;
      end_ = length;
      if (buffer_.size() - end_ < kReadBytes / 2) buffer_.resize(2 * buffer_.size());
      const size_t got = std::fread(buffer_.data() + end_, 1, buffer_.size() - end_, file_.get());
      if (std::ferror(file_.get())) throw DataError(path_ + ": cannot be read: " + std::strerror(errno));
      end_ += got;
      if (got > 0) continue;
      if (length == 0) return false;
      from = buffer_.data();
    }
    begin_ += length + (newline != nullptr);
    ++line_;
    if (length > 0 && from[length - 1] == '\r') --length;
    *line = {from, length};
    return true;
  }
}

void TableFile::Split(std::string_view line) {
  cells_.clear();
  features::SplitText(line, delimiter_, [&](std::string_view cell) {
    cells_.push_back(cell);
    return true;
  });
  if (cells_.size() == columns_.size()) return;
  std::string names;
  for (const Column& column : columns_) names += (names.empty() ? "" : ", ") + column.name;
  Fail("has " + std::to_string(cells_.size()) + (cells_.size() == 1 ? " field" : " fields") + " where " +
       std::to_string(columns_.size()) + " are needed (" + names + "; delimiter " + Shown(delimiter_) + ")");
}

void TableFile::Fail(size_t column, const std::string& what) const {
  throw DataError(path_ + " row " + std::to_string(line_) + ", column " + columns_[column].name + ": " + what);
}

void TableFile::Fail(const std::string& what) const {
  throw DataError(path_ + " row " + std::to_string(line_) + ": " + what);
}

}  // namespace anneal::data
