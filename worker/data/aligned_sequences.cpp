#include "worker/data/aligned_sequences.h"

#include <algorithm>

#include "worker/config/error.h"

namespace anneal::data {
namespace {

using tzrec::protos::ModelConfig;

constexpr const char* kCandidates = "candidate";

/// The prefixes of the groups that have a ranker's histories; none: another model.
std::vector<std::string> HistoriesOf(const ModelConfig& model) {
  if (model.has_dlrm_hstu()) return {"uih"};
  std::vector<std::string> histories;
  for (const auto& channel : model.ultra_hstu().hstu())
    histories.push_back(channel.name().empty() ? "uih" : channel.name());
  return histories;
}

/// Of which history or of the candidates a group of a ranker is; the group itself otherwise.
std::string OwnerOf(const std::string& group, const std::vector<std::string>& histories) {
  if (histories.empty()) return group;
  if (group == std::string(kCandidates) + "_timestamp") return kCandidates;
  for (const std::string& history : histories) {
    for (const char* suffix : {"_action", "_watchtime", "_timestamp"}) {
      if (group == history + suffix) return history;
    }
  }
  return group;
}

/// The first element of each row, and behind the last.
const int64_t* OffsetsOf(const SequenceColumn& column, const Batch& batch) {
  return column.sparse ? batch.sparse.offsets.data() + column.index * batch.rows
                       : batch.dense_sequences[column.index].offsets.data();
}

/// "<file> row 17" of a batch's row.
std::string WhereInBatch(std::span<const RowSlice> slices, int64_t row) {
  for (const RowSlice& slice : slices) {
    if (row < slice.count) return Where(slice, row);
    row -= slice.count;
  }
  return "row " + std::to_string(row);
}

/// The first row that has other numbers of elements; -1: none.
int64_t FirstUnlike(const int64_t* a, const int64_t* b, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row) {
    if (a[row + 1] - a[row] != b[row + 1] - b[row]) return row;
  }
  return -1;
}

}  // namespace

std::vector<AlignedSequences> AlignedSequencesOf(const tzrec::protos::EasyRecConfig& config,
                                                 const features::FeatureSet& features) {
  const std::vector<std::string> histories = HistoriesOf(config.model_config());
  std::vector<std::pair<std::string, AlignedSequences>> owners;
  for (const auto& group : config.model_config().feature_groups()) {
    if (group.group_type() != tzrec::protos::JAGGED_SEQUENCE) continue;
    const std::string owner = OwnerOf(group.group_name(), histories);
    auto found = std::find_if(owners.begin(), owners.end(), [&](const auto& entry) { return entry.first == owner; });
    if (found == owners.end()) {
      owners.emplace_back(owner, AlignedSequences{{}, !histories.empty() && owner == kCandidates});
      found = owners.end() - 1;
    }
    for (const std::string& name : group.feature_names()) {
      const features::Feature* feature = features.Find(name);
      if (feature && feature->sequence) found->second.features.push_back({name, feature->sparse, feature->index});
    }
  }
  std::vector<AlignedSequences> aligned;
  for (auto& [owner, of] : owners) {
    if (!of.features.empty()) aligned.push_back(std::move(of));
  }
  return aligned;
}

void CheckAligned(const AlignedSequences& aligned, std::span<const RowSlice> slices,
                  const std::vector<std::string>& labels, const Batch& batch) {
  const SequenceColumn& first = aligned.features.front();
  const int64_t* const offsets = OffsetsOf(first, batch);
  const auto check = [&](const std::string& what, const int64_t* others) {
    const int64_t row = FirstUnlike(offsets, others, batch.rows);
    if (row < 0) return;
    throw DataError(WhereInBatch(slices, row) + ": " + what + " has " + std::to_string(others[row + 1] - others[row]) +
                    " values, feature " + first.feature + " has " + std::to_string(offsets[row + 1] - offsets[row]) +
                    ": they belong together one by one");
  };
  for (const SequenceColumn& column : aligned.features) check("feature " + column.feature, OffsetsOf(column, batch));
  for (size_t i = 0; aligned.labels && i < batch.labels.size(); ++i)
    check("label column " + labels[i], batch.labels[i].offsets.data());
}

}  // namespace anneal::data
