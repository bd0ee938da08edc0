#include "worker/features/derived/key_values.h"

#include <algorithm>

namespace anneal::features {
namespace {

void Sort(std::vector<KeyValue>& pairs) {
  const auto before = [](const KeyValue& a, const KeyValue& b) {
    const int order = a.key.compare(b.key);
    return order < 0 || (order == 0 && a.place < b.place);
  };
  if (!std::is_sorted(pairs.begin(), pairs.end(), before)) std::sort(pairs.begin(), pairs.end(), before);
}

}  // namespace

double DotProduct(std::vector<KeyValue>& query, std::vector<KeyValue>& document) {
  Sort(query);
  Sort(document);
  const auto behind = [](auto at, auto end) {  // the equal keys that begin there
    const std::string_view key = at->key;
    while (at != end && at->key == key) ++at;
    return at;
  };
  double sum = 0;
  auto q = query.begin(), d = document.begin();
  while (q != query.end() && d != document.end()) {
    const int order = q->key.compare(d->key);
    if (order == 0) sum += q->value * d->value;
    if (order <= 0) q = behind(q, query.end());
    if (order >= 0) d = behind(d, document.end());
  }
  return sum;
}

}  // namespace anneal::features
