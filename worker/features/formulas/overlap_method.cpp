#include "worker/features/formulas/overlap_method.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "worker/features/refusal.h"

namespace anneal::features {
namespace {

using Words = OverlapMethod::Words;
using Scratch = OverlapMethod::Scratch;

void Distinct(Words words, std::vector<std::string_view>& out) {
  out.assign(words.begin(), words.end());
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
}

/// Words of both, each once.
double Shared(Words query, Words title, Scratch& scratch) {
  Distinct(query, scratch.query);
  Distinct(title, scratch.title);
  int64_t shared = 0;
  for (auto q = scratch.query.begin(), t = scratch.title.begin();
       q != scratch.query.end() && t != scratch.title.end();) {
    const int order = q->compare(*t);
    shared += order == 0;
    q += order <= 0;
    t += order >= 0;
  }
  return static_cast<double>(shared);
}

double QueryRatio(Words query, Words title, Scratch& scratch) {
  const double shared = Shared(query, title, scratch);
  return shared / static_cast<double>(scratch.query.size());
}

double TitleRatio(Words query, Words title, Scratch& scratch) {
  const double shared = Shared(query, title, scratch);
  return shared / static_cast<double>(scratch.title.size());
}

double Contains(Words query, Words title, Scratch&) {
  size_t found = 0;
  for (const std::string_view word : title) found += found < query.size() && word == query[found];
  return found == query.size() ? 1 : 0;
}

double Equals(Words query, Words title, Scratch&) {
  return std::equal(query.begin(), query.end(), title.begin(), title.end()) ? 1 : 0;
}

double IndexOf(Words query, Words title, Scratch&) {
  const auto found = std::search(title.begin(), title.end(), query.begin(), query.end());
  return found == title.end() ? -1 : static_cast<double>(found - title.begin());
}

/// Fills `query` and `at`. Returns how many of the query's words the title has.
int64_t Locate(Words query, Words title, Scratch& scratch) {
  Distinct(query, scratch.query);
  scratch.at.resize(title.size());
  scratch.last.assign(scratch.query.size(), -1);
  int64_t found = 0;
  for (size_t i = 0; i < title.size(); ++i) {
    const auto word = std::lower_bound(scratch.query.begin(), scratch.query.end(), title[i]);
    const bool there = word != scratch.query.end() && *word == title[i];
    scratch.at[i] = there ? static_cast<int>(word - scratch.query.begin()) : -1;
    if (there && std::exchange(scratch.last[scratch.at[i]], 0) < 0) ++found;
  }
  return found;
}

double MinCover(Words query, Words title, Scratch& scratch) {
  const int64_t wanted = Locate(query, title, scratch);
  if (wanted < std::ssize(scratch.query)) return 0;
  std::vector<int64_t>& inside = scratch.last;  // how often each word is in the piece
  std::fill(inside.begin(), inside.end(), 0);
  int64_t best = std::ssize(title), covered = 0, begin = 0;
  for (int64_t end = 0; end < std::ssize(title); ++end) {
    const int word = scratch.at[end];
    if (word >= 0) covered += inside[word]++ == 0;
    for (; covered == wanted; ++begin) {
      best = std::min(best, end - begin + 1);
      const int out = scratch.at[begin];
      if (out >= 0) covered -= --inside[out] == 0;
    }
  }
  return static_cast<double>(best);
}

enum class Pick { kLeast, kMost, kMean };

template <Pick pick>
double Distance(Words query, Words title, Scratch& scratch) {
  const int64_t found = Locate(query, title, scratch);
  if (found == 0) return static_cast<double>(title.size() + 1);
  if (found == 1) return 0;
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max(), kMostFound = 2048;
  if (found > kMostFound) {
    throw Refusal{"has " + std::to_string(found) + " words of the title: distances are told of " +
                  std::to_string(kMostFound) + " at most"};
  }
  // From here on `at` counts the words that were found.
  int64_t next = 0;
  for (int64_t& word : scratch.last) word = word < 0 ? -1 : next++;
  for (int& word : scratch.at) word = word < 0 ? -1 : static_cast<int>(scratch.last[word]);
  scratch.last.assign(found, -1);
  scratch.nearest.assign(found * found, kNever);  // [smaller, larger]
  for (int64_t i = 0; i < std::ssize(title); ++i) {
    const int64_t word = scratch.at[i];
    if (word < 0) continue;
    for (int64_t other = 0; other < found; ++other) {
      if (other == word || scratch.last[other] < 0) continue;
      int64_t& nearest = scratch.nearest[std::min(word, other) * found + std::max(word, other)];
      nearest = std::min(nearest, i - scratch.last[other]);
    }
    scratch.last[word] = i;
  }
  int64_t least = kNever, most = 0, sum = 0, pairs = 0;
  for (const int64_t nearest : scratch.nearest) {
    if (nearest == kNever) continue;
    least = std::min(least, nearest);
    most = std::max(most, nearest);
    sum += nearest;
    ++pairs;
  }
  switch (pick) {
    case Pick::kLeast:
      return static_cast<double>(least);
    case Pick::kMost:
      return static_cast<double>(most);
    case Pick::kMean:
      break;
  }
  return static_cast<double>(sum) / static_cast<double>(pairs);
}

struct Named {
  const char* name;
  double (*method)(Words query, Words title, Scratch& scratch);
};

constexpr Named kMethods[] = {{"query_common_ratio", QueryRatio},
                              {"title_common_ratio", TitleRatio},
                              {"is_contain", Contains},
                              {"is_equal", Equals},
                              {"index_of", IndexOf},
                              {"proximity_min_cover", MinCover},
                              {"proximity_min_dist", Distance<Pick::kLeast>},
                              {"proximity_max_dist", Distance<Pick::kMost>},
                              {"proximity_avg_dist", Distance<Pick::kMean>}};

}  // namespace

std::optional<OverlapMethod> OverlapMethod::FromName(std::string_view method) {
  for (const Named& one : kMethods) {
    if (method == one.name) return OverlapMethod(one.method);
  }
  return std::nullopt;
}

std::string OverlapMethod::Names() {
  std::string names;
  for (const Named& one : kMethods) names += (names.empty() ? "" : ", ") + std::string(one.name);
  return names;
}

double OverlapMethod::operator()(Words query, Words title, Scratch& scratch) const {
  return method_(query, title, scratch);
}

}  // namespace anneal::features
