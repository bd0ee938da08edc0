#include "worker/data/sampler/edge_table.h"

#include <algorithm>
#include <utility>

namespace anneal::data {

EdgeTable::EdgeTable(const std::string& path, const std::string& delimiter, const NodeTable& items) {
  constexpr size_t kUser = 0, kItem = 1, kWeight = 2;
  TableFile file(
      path, delimiter,
      {{"user id", TableFile::Kind::kId}, {"item id", TableFile::Kind::kId}, {"weight", TableFile::Kind::kWeight}});
  std::vector<std::pair<int64_t, int32_t>> edges;
  while (file.Next()) {
    const int64_t user = file.Id(kUser), item = items.Find(file.Id(kItem));
    file.Weight(kWeight);
    if (item >= 0) {
      edges.emplace_back(user, static_cast<int32_t>(item));
    } else if (unknown_++ == 0) {
      first_unknown_line_ = file.line();
    }
  }
  const auto by_user = [](const auto& a, const auto& b) { return a.first < b.first; };
  if (!std::is_sorted(edges.begin(), edges.end(), by_user)) std::stable_sort(edges.begin(), edges.end(), by_user);
  targets_.reserve(edges.size());
  for (const auto& [user, item] : edges) {
    if (users_.empty() || users_.back() != user) {
      users_.push_back(user);
      ends_.push_back(0);
    }
    targets_.push_back(item);
    ends_.back() = targets_.size();
  }
}

std::span<const int32_t> EdgeTable::Of(int64_t user) const {
  const auto found = std::lower_bound(users_.begin(), users_.end(), user);
  if (found == users_.end() || *found != user) return {};
  const auto at = static_cast<size_t>(found - users_.begin());
  const size_t begin = at == 0 ? 0 : ends_[at - 1];
  return {targets_.data() + begin, ends_[at] - begin};
}

void EdgeTable::SortTargets() {
  size_t begin = 0, kept = 0;
  for (size_t& end : ends_) {
    std::sort(targets_.begin() + static_cast<std::ptrdiff_t>(begin),
              targets_.begin() + static_cast<std::ptrdiff_t>(end));
    const size_t first = kept;
    for (size_t i = begin; i < end; ++i) {
      if (kept == first || targets_[kept - 1] != targets_[i]) targets_[kept++] = targets_[i];
    }
    begin = std::exchange(end, kept);
  }
  targets_.resize(kept);
}

}  // namespace anneal::data
