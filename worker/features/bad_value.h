// The message for a cell that a feature cannot read.
#pragma once

#include <string>

#include "worker/data/row_slice.h"
#include "worker/features/refusal.h"

namespace anneal::features {

/// Throws DataError "<file> row <n>, column <column>: <what> (feature <feature>)".
[[noreturn]] void ThrowBadValue(const data::RowSlice& slice, int64_t row, const std::string& column,
                                const std::string& feature, const std::string& what);

}  // namespace anneal::features
