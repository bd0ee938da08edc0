// The attributes of a sampler's items as columns of the input's types (parity/data.md 5.1).
#pragma once

#include <arrow/type_fwd.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace anneal::data {

/// Takes the attributes of one item after the other. An empty text is null. Lists are split by 0x1D, maps are
/// "key:value" pairs joined by it; a string stays as it is, and becomes a value when the features run.
class AttributeColumns {
 public:
  /// Attributes come in the order of `attr_fields`, between delimiters. Those that are no column of `input` are passed
  /// over: unread(). Throws DataError naming a column that holds lists of lists, which no text can give.
  AttributeColumns(const std::vector<std::string>& attr_fields, std::string delimiter, const arrow::Schema& input);
  ~AttributeColumns();

  const std::vector<std::string>& unread() const { return unread_; }
  /// Tells `warn` of those, which stand in "<field>.attr_fields".
  void TellOfUnread(const std::string& field, const std::function<void(const std::string&)>& warn) const;

  /// Throws features::Refusal for another number of attributes and for one that its type cannot hold; what was appended
  /// is then of no use.
  void Append(std::string_view attributes);

  /// The attributes taken, in the order of attr_fields. Throws DataError where Arrow cannot hold them: 2 GiB of text
  /// and 2^31 list elements are the most of a column.
  std::shared_ptr<arrow::RecordBatch> Finish();

 private:
  struct Column {
    std::string name;
    std::unique_ptr<arrow::ArrayBuilder> builder;  ///< null: passed over
  };

  std::string delimiter_;
  std::vector<Column> columns_;
  std::vector<std::string> unread_;
  int64_t rows_ = 0;
};

}  // namespace anneal::data
