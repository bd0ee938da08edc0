#include "worker/data/sampler/item_features.h"

#include <arrow/array/array_primitive.h>
#include <arrow/compute/api_vector.h>
#include <arrow/datum.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include "worker/config/error.h"
#include "worker/features/data_groups.h"

namespace anneal::data {
namespace {

features::FeatureProgram Compile(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
                                 const RowSlice& attributes, const std::vector<std::string>& attr_fields) {
  try {
    return {features, config, *attributes.rows->schema(),
            [&](const features::Feature& feature) { return features::IsSampled(feature, attr_fields); }};
  } catch (const DataError& error) {  // knows the columns, not where they are from
    throw DataError((attributes.file ? *attributes.file + ": " : "") + error.what());
  }
}

}  // namespace

ItemFeatures::ItemFeatures(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
                           const RowSlice& attributes, const std::vector<std::string>& attr_fields)
    : attributes_(attributes), program_(Compile(config, features, attributes, attr_fields)) {}

void ItemFeatures::Run(const std::vector<int64_t>& items, Batch* out) const {
  const auto rows = std::make_shared<arrow::Int64Array>(std::ssize(items), arrow::Buffer::Wrap(items));
  const auto taken = arrow::compute::Take(arrow::Datum(attributes_.rows), arrow::Datum(rows),
                                          arrow::compute::TakeOptions::NoBoundsCheck());
  if (!taken.ok()) throw DataError(Where(attributes_, 0) + ": " + taken.status().message());
  try {
    program_.Run(taken->record_batch(), *out);
  } catch (const DataError&) {  // names a row of `taken`: find it in the table
    for (const int64_t item : items) {
      RowSlice one = attributes_;
      one.begin += item;
      one.row_in_file += item;
      one.count = 1;
      program_.Run({&one, 1}, *out);
    }
    throw;
  }
}

}  // namespace anneal::data
