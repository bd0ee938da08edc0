// Tables of cases for features that are derived from several columns.
#pragma once

#include <gmock/gmock.h>

#include "tests/worker/features/feature_case.h"
#include "worker/config/error.h"

namespace anneal::features {

struct IdCase {
  std::string feature;  ///< the fields of its message after feature_name and embedding_dim
  std::vector<Column> columns;
  std::vector<int64_t> values, lengths;
};

struct NumberCase {
  std::string feature;
  std::vector<Column> columns;
  std::vector<float> values;  ///< NaN: anything
};

struct BadCase {
  std::string feature;
  std::vector<Column> columns;
  std::string part;  ///< of the message
};

inline std::string OneFeature(const std::string& kind, const std::string& fields, const std::string& mode = "FG_DAG") {
  return "data_config { fg_mode: " + mode + " } feature_configs { " + kind + " { feature_name: 'f' embedding_dim: 4 " +
         fields + " } }";
}

inline void ExpectIds(const std::string& kind, const std::vector<IdCase>& cases) {
  for (const IdCase& one : cases) {
    for (const char* mode : {"FG_DAG", "FG_NORMAL"}) {
      const data::Batch batch = RunConfig(OneFeature(kind, one.feature, mode), one.columns);
      EXPECT_EQ(batch.sparse.values, one.values) << kind << " " << one.feature << " " << one.columns[0].json;
      EXPECT_EQ(Lengths(batch.sparse), one.lengths) << kind << " " << one.feature << " " << one.columns[0].json;
    }
  }
}

inline void ExpectNumbers(const std::string& kind, const std::vector<NumberCase>& cases) {
  for (const NumberCase& one : cases) {
    for (const char* mode : {"FG_DAG", "FG_NORMAL"}) {
      const data::Batch batch = RunConfig(OneFeature(kind, one.feature, mode), one.columns);
      EXPECT_EQ(batch.dense, one.values) << kind << " " << one.feature << " " << one.columns[0].json;
    }
  }
}

/// Faults of the data: the message has that part, and the kind of error is DataError.
inline void ExpectBad(const std::string& kind, const std::vector<BadCase>& cases) {
  for (const BadCase& one : cases) {
    const auto run = [&] { RunConfig(OneFeature(kind, one.feature), one.columns); };
    EXPECT_THAT(MessageOf(run), testing::HasSubstr(one.part)) << kind << " " << one.feature;
    EXPECT_THROW(run(), DataError) << kind << " " << one.feature;
  }
}

/// FG_NONE and FG_BUCKETIZE read one column of the feature's name.
inline data::Batch RunOwnColumn(const std::string& kind, const std::string& fields, const std::string& mode,
                                const std::shared_ptr<arrow::DataType>& type, const char* json) {
  return RunConfig(OneFeature(kind, fields, mode), {{"f", type, json}});
}

}  // namespace anneal::features
