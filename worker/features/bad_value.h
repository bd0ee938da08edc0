// The message for a cell that a feature cannot read.
#pragma once

#include <string>
#include <string_view>

#include "worker/data/row_slice.h"

namespace anneal::features {

/// `text` for a message: quoted, control characters as \x1d, cut after 80 characters.
std::string Shown(std::string_view text);

/// Why a value was refused: the value and what is wrong with it. Whoever knows its row makes a DataError of it.
struct Refusal {
  std::string what;
};

/// Throws DataError "<file> row <n>, column <column>: <what> (feature <feature>)".
[[noreturn]] void ThrowBadValue(const data::RowSlice& slice, int64_t row, const std::string& column,
                                const std::string& feature, const std::string& what);

}  // namespace anneal::features
