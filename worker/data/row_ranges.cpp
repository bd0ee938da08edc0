#include "worker/data/row_ranges.h"

#include <algorithm>
#include <charconv>

#include "worker/config/error.h"

namespace anneal::data {

RowRange ShareOfRows(int64_t rows, int64_t worker, int64_t workers, int64_t even_batch_size) {
  const int64_t size = rows / workers, extra = rows % workers;
  RowRange share;
  share.begin = worker * size + std::min(worker, extra);
  share.end = share.begin + size + (worker < extra ? 1 : 0);
  const bool lone_row = even_batch_size > 1 && size > 0 && size % even_batch_size == 0;
  if (worker < extra && lone_row) --share.end;
  return share;
}

std::vector<RowRange> RemainingRows(const std::map<std::string, int64_t>& position, const std::string& input_path,
                                    int64_t rows) {
  const std::string prefix = input_path + ":";
  std::map<int64_t, int64_t> consumed;  // slice start -> first row not consumed
  for (const auto& [source, last] : position) {
    if (!source.starts_with(prefix)) continue;
    int64_t start = 0;
    const char* end = source.data() + source.size();
    const auto [stop, error] = std::from_chars(source.data() + prefix.size(), end, start);
    if (error != std::errc() || stop != end) continue;  // of another path that begins alike
    if (start < 0 || start > last || last >= rows) {
      throw DataError("reading position " + source + " -> " + std::to_string(last) + " does not fit the " +
                      std::to_string(rows) + " rows of " + input_path + ": is it other data?");
    }
    consumed[start] = last + 1;
  }
  if (consumed.empty()) return rows > 0 ? std::vector<RowRange>{{0, rows}} : std::vector<RowRange>{};
  std::vector<RowRange> remaining;
  const auto add = [&](int64_t begin, int64_t end) {
    if (begin < end) remaining.push_back({begin, end});
  };
  add(0, consumed.begin()->first);
  for (auto range = consumed.begin(); range != consumed.end(); ++range) {
    const auto next = std::next(range);
    add(range->second, next == consumed.end() ? rows : next->first);
  }
  return remaining;
}

std::vector<RowRange> PartOfRanges(const std::vector<RowRange>& ranges, RowRange share) {
  std::vector<RowRange> part;
  int64_t before = 0;  // rows of the ranges passed
  for (const RowRange& range : ranges) {
    const int64_t begin = std::max<int64_t>(share.begin - before, 0);
    const int64_t end = std::min(share.end - before, range.size());
    if (begin < end) part.push_back({range.begin + begin, range.begin + end});
    before += range.size();
  }
  return part;
}

int64_t CountRows(const std::vector<RowRange>& ranges) {
  int64_t rows = 0;
  for (const RowRange& range : ranges) rows += range.size();
  return rows;
}

}  // namespace anneal::data
