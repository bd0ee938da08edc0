// The text files that samplers are made from (parity/data.md 5.1): a typed header line, then a row a line.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace anneal::data {

/// Whether the environment variable USE_HASH_NODE_ID=1 makes ids texts instead of int64 numbers.
bool TextNodeIds();

/// The number that stands for an id: its 64-bit MurmurHash with TextNodeIds, otherwise itself. False for a text that is
/// no int64.
bool ReadNodeId(std::string_view text, bool text_ids, int64_t* id);

/// Reads a table row by row. Whatever is wrong with it throws DataError "<file> row <line>, column <name>: ...", lines
/// counted from 1, that of the header.
class TableFile {
 public:
  enum class Kind { kId, kWeight, kText };
  struct Column {
    std::string name;  ///< for messages; the header may call it otherwise
    Kind kind = Kind::kId;
  };

  /// Opens the file and reads the header, "name:type" for each column: int64 (string with TextNodeIds) for ids, float
  /// or double for weights, string for text. `delimiter` stands between columns.
  TableFile(const std::string& path, std::string delimiter, std::vector<Column> columns);

  /// Goes to the next row. False at the end.
  bool Next();

  // Cells of this row; `column` has to be of that kind.
  int64_t Id(size_t column) const;
  float Weight(size_t column) const;  ///< finite, at least 0
  std::string_view Text(size_t column) const { return cells_[column]; }

  int64_t line() const { return line_; }
  [[noreturn]] void Fail(size_t column, const std::string& what) const;

 private:
  bool ReadLine(std::string_view* line);
  void Split(std::string_view line);
  [[noreturn]] void Fail(const std::string& what) const;

  struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  std::string path_, delimiter_;
  std::vector<Column> columns_;
  bool text_ids_;
  std::unique_ptr<std::FILE, Closer> file_;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;  ///< of what is read and not yet used, in buffer_
  int64_t line_ = 0;
  std::vector<std::string_view> cells_;
};

}  // namespace anneal::data
