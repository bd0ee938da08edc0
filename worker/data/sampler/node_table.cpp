#include "worker/data/sampler/node_table.h"

#include <arrow/record_batch.h>

#include <limits>

#include "worker/config/error.h"
#include "worker/features/bad_value.h"

namespace anneal::data {
namespace {

constexpr size_t kId = 0, kWeight = 1, kAttributes = 2;
constexpr int64_t kFirstLine = 2;  // behind the header

std::vector<TableFile::Column> Columns(bool attributes) {
  std::vector<TableFile::Column> columns = {{"id", TableFile::Kind::kId}, {"weight", TableFile::Kind::kWeight}};
  if (attributes) columns.push_back({"attrs", TableFile::Kind::kText});
  return columns;
}

/// Spreads ids that differ in few bits (the finalizer of SplitMix64).
uint64_t Mixed(int64_t id) {
  auto bits = static_cast<uint64_t>(id);
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
  return bits ^ (bits >> 31);
}

}  // namespace

NodeTable::NodeTable(const std::string& path, const std::string& delimiter, AttributeColumns* attributes)
    : places_(1024) {
  TableFile file(path, delimiter, Columns(attributes != nullptr));
  while (file.Next()) {
    const int64_t id = file.Id(kId);
    int32_t& place = places_[Slot(id)];
    if (place != 0) {
      file.Fail(kId, features::Shown(file.Text(kId)) + " is in row " + std::to_string(place - 1 + kFirstLine) + " too");
    }
    if (size() == std::numeric_limits<int32_t>::max()) throw DataError(path + ": has 2^31 rows or more");
    place = static_cast<int32_t>(size() + 1);
    ids_.push_back(id);
    weights_.push_back(file.Weight(kWeight));
    if (2 * ids_.size() > places_.size()) Grow();
    if (attributes == nullptr) continue;
    try {
      attributes->Append(file.Text(kAttributes));
    } catch (const features::Refusal& refusal) {
      file.Fail(kAttributes, refusal.what);
    }
  }
  if (ids_.empty()) throw DataError(path + ": has no row behind the header");
  if (attributes == nullptr) return;
  try {
    attributes_.rows = attributes->Finish();
  } catch (const DataError& error) {
    throw DataError(path + ": " + error.what());
  }
  attributes_.count = size();
  attributes_.file = std::make_shared<const std::string>(path);
  attributes_.row_in_file = kFirstLine;
}

size_t NodeTable::Slot(int64_t id) const {
  const size_t mask = places_.size() - 1;
  size_t at = Mixed(id) & mask;
  while (places_[at] != 0 && ids_[places_[at] - 1] != id) at = (at + 1) & mask;
  return at;
}

void NodeTable::Grow() {
  places_.assign(2 * places_.size(), 0);
  for (int64_t row = 0; row < size(); ++row) places_[Slot(ids_[row])] = static_cast<int32_t>(row + 1);
}

}  // namespace anneal::data
