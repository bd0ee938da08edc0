#include "worker/data/sampler/tree_table.h"

#include <arrow/array/array_primitive.h>
#include <arrow/record_batch.h>

#include <algorithm>

#include "worker/config/error.h"
#include "worker/data/sampler/table_file.h"
#include "worker/features/bad_value.h"

namespace anneal::data {
namespace {

using config::TreeSamplerSettings;

constexpr size_t kFrom = 0, kTo = 1, kWeight = 2;

TableFile OpenEdges(const config::SamplerTable& table, const TreeSamplerSettings& settings, const char* from,
                    const char* to) {
  return {table.path,
          settings.field_delimiter,
          {{from, TableFile::Kind::kId}, {to, TableFile::Kind::kId}, {"weight", TableFile::Kind::kWeight}}};
}

std::string LevelText(int64_t level) { return std::string(config::kTreeLevel) + " " + std::to_string(level); }

}  // namespace

TreeTable::TreeTable(const TreeSamplerSettings& settings, AttributeColumns& attributes)
    : nodes_(settings.nodes.path, settings.field_delimiter, &attributes) {
  ReadLevels(settings);
  ReadAncestors(settings);
  CheckChildren(settings);
}

void TreeTable::ReadLevels(const TreeSamplerSettings& settings) {
  const RowSlice& rows = nodes_.attributes();
  const auto column = std::static_pointer_cast<arrow::Int64Array>(rows.rows->GetColumnByName(config::kTreeLevel));
  const int64_t last = settings.levels() - 1;
  std::vector<int64_t> sizes(settings.levels(), 0);
  std::vector<std::vector<int32_t>> drawn(settings.levels());
  level_of_.resize(nodes_.size());
  leaf_number_.assign(nodes_.size(), -1);
  for (int64_t row = 0; row < nodes_.size(); ++row) {
    const auto fail = [&](const std::string& what) {
      throw DataError(Where(rows, row) + ", column attrs: " + config::kTreeLevel + " " + what);
    };
    if (column->IsNull(row)) fail("is missing");
    const int64_t level = column->Value(row);
    if (level < -1) fail(std::to_string(level) + " is negative");
    if (level > last) {
      fail(std::to_string(level) + " is below the leaves: " + settings.field + ".layer_num_sample has levels 0 to " +
           std::to_string(last));
    }
    level_of_[row] = static_cast<int32_t>(level);
    if (level < 0) continue;
    if (level == last) leaf_number_[row] = static_cast<int32_t>(sizes[level]);
    ++sizes[level];
    if (nodes_.weights()[row] > 0) drawn[level].push_back(static_cast<int32_t>(row));
  }
  for (int64_t level = 0; level <= last; ++level) {
    const int64_t wanted = settings.layer_num_sample[level], there = std::ssize(drawn[level]);
    const auto fail = [&](const std::string& what) {
      throw DataError(settings.nodes.path + ": " + what + " (" + settings.field + ".layer_num_sample)");
    };
    if (sizes[level] == 0) fail("there is no node of " + LevelText(level));
    if (wanted > 0 && there <= wanted) {
      fail("of " + LevelText(level) + " only " + std::to_string(there) +
           (there == 1 ? " node weighs" : " nodes weigh") + " more than 0: " + std::to_string(wanted) +
           " cannot be drawn besides a row's own");
    }
    std::vector<float> weights;
    for (const int32_t row : drawn[level]) weights.push_back(nodes_.weights()[row]);
    AliasTable alias(weights);
    levels_.push_back({std::move(drawn[level]), std::move(weights), std::move(alias)});
  }
}

void TreeTable::ReadAncestors(const TreeSamplerSettings& settings) {
  const int64_t inner = levels() - 2, last = levels() - 1;
  const auto leaves = std::count_if(leaf_number_.begin(), leaf_number_.end(), [](int32_t leaf) { return leaf >= 0; });
  ancestors_.assign(leaves * inner, -1);
  const std::string& path = settings.ancestors.path;
  TableFile file = OpenEdges(settings.ancestors, settings, "leaf id", "ancestor id");
  while (file.Next()) {
    const auto find = [&](size_t cell) {
      const int64_t row = nodes_.Find(file.Id(cell));
      if (row < 0) file.Fail(cell, features::Shown(file.Text(cell)) + " is no node of " + settings.nodes.path);
      return row;
    };
    const int64_t leaf = find(kFrom), ancestor = find(kTo), level = level_of_[ancestor];
    file.Weight(kWeight);
    if (leaf_number_[leaf] < 0) {
      file.Fail(kFrom, features::Shown(file.Text(kFrom)) + " has " + LevelText(level_of_[leaf]) + ", leaves have " +
                           std::to_string(last));
    }
    if (level < 1 || level >= last) {
      file.Fail(kTo, features::Shown(file.Text(kTo)) + " has " + LevelText(level) +
                         ": it is not between the root and a leaf");
    }
    int32_t& place = ancestors_[leaf_number_[leaf] * inner + level - 1];
    if (place >= 0 && place != ancestor) {
      file.Fail(kTo, features::Shown(file.Text(kTo)) + " is another ancestor with " + LevelText(level));
    }
    place = static_cast<int32_t>(ancestor);
  }
  for (int64_t row = 0; row < nodes_.size(); ++row) {
    if (leaf_number_[row] < 0) continue;
    const std::span<const int32_t> all = AncestorsOf(row);
    const auto missing = std::find(all.begin(), all.end(), -1);
    if (missing != all.end()) {
      throw DataError(path + ": has no edge from the leaf in " + Where(nodes_.attributes(), row) +
                      " to an ancestor with " + LevelText(missing - all.begin() + 1));
    }
  }
}

void TreeTable::CheckChildren(const TreeSamplerSettings& settings) const {
  TableFile file = OpenEdges(settings.children, settings, "parent id", "child id");
  while (file.Next()) {
    const auto level = [&](size_t cell) -> int64_t {
      const int64_t row = nodes_.Find(file.Id(cell));
      if (row < 0) file.Fail(cell, features::Shown(file.Text(cell)) + " is no node of " + settings.nodes.path);
      return level_of_[row];
    };
    const int64_t parent = level(kFrom), child = level(kTo);
    file.Weight(kWeight);
    if (child == parent + 1) continue;
    file.Fail(kTo,
              features::Shown(file.Text(kTo)) + " has " + LevelText(child) + ", its parent " + std::to_string(parent));
  }
}

int64_t TreeTable::FindLeaf(int64_t id) const {
  const int64_t row = nodes_.Find(id);
  return row >= 0 && leaf_number_[row] >= 0 ? row : -1;
}

std::span<const int32_t> TreeTable::AncestorsOf(int64_t leaf) const {
  const int64_t inner = levels() - 2;
  return {ancestors_.data() + leaf_number_[leaf] * inner, static_cast<size_t>(inner)};
}

}  // namespace anneal::data
