#include "worker/features/bad_value.h"

#include "worker/config/error.h"

namespace anneal::features {

void ThrowBadValue(const data::RowSlice& slice, int64_t row, const std::string& column, const std::string& feature,
                   const std::string& what) {
  throw DataError(data::Where(slice, row) + ", column " + column + ": " + what + " (feature " + feature + ")");
}

}  // namespace anneal::features
