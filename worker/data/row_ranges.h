// Who reads which rows (parity/data.md 2.2): pure arithmetic on row numbers over all files of an input path.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace anneal::data {

/// Rows [begin, end).
struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  friend bool operator==(const RowRange&, const RowRange&) = default;
};

/// The contiguous share of worker `worker` of `workers`: the first (rows mod workers) workers take one extra row.
/// `even_batch_size` > 0 (train, eval): when that extra row would be a batch of its own while the other workers end on
/// a full batch, it is dropped, so that ranks run equally many batches. (With fewer rows than workers it is kept.)
RowRange ShareOfRows(int64_t rows, int64_t worker, int64_t workers, int64_t even_batch_size);

/// What a checkpoint's reading position leaves of `rows` rows. `position`: "<input_path>:<slice start>" -> highest row
/// consumed; entries of other paths are ignored. A range ends where the next one starts; rows before the first start
/// were never begun. All rows when nothing of `input_path` was read. Throws DataError when the position does not fit
/// the data.
std::vector<RowRange> RemainingRows(const std::map<std::string, int64_t>& position, const std::string& input_path,
                                    int64_t rows);

/// The part of `ranges`, laid end to end, that `share` covers.
std::vector<RowRange> PartOfRanges(const std::vector<RowRange>& ranges, RowRange share);

/// Rows of all ranges.
int64_t CountRows(const std::vector<RowRange>& ranges);

}  // namespace anneal::data
