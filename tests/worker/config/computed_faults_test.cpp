// What `anneal check` says of features that are computed: the field, the line and the column.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/config/feature_faults.h"

namespace anneal::config {
namespace {

std::string One(const std::string& kind, const std::string& fields) {
  return "feature_configs { " + kind + " { feature_name: 'f'\n" + fields + " } }";
}

TEST(ComputedFaults, GoodOnes) {
  const std::string expr = "expression: 'a > 1 ? log(a) : b' variables: ['user:a', 'item:b'] ";
  for (const std::string& features :
       {One("expr_feature", expr), One("expr_feature", expr + "boundaries: [1, 2] embedding_dim: 4 value_dim: 0"),
        One("sequence_expr_feature", expr + "sequence_fields: 'a'"),
        One("overlap_feature", "query: 'user:a' title: 'item:b' method: 'proximity_avg_dist'"),
        One("kv_dot_product", "query: 'user:a' document: 'item:b' separator: '|'"),
        One("raw_feature", "expression: 'user:a' normalizer: 'method=expression,expr=log(x+3)'")}) {
    EXPECT_EQ(FeatureFaults(features), "") << features;
  }
  // Nothing is computed: the texts are not read.
  EXPECT_EQ(FeatureFaults(One("expr_feature", "expression: '?'"), "fg_mode: FG_NONE"), "");
  EXPECT_EQ(FeatureFaults(One("overlap_feature", "method: '?'"), "fg_mode: FG_BUCKETIZE"), "");
}

TEST(ComputedFaults, NameFieldAndPlace) {
  const std::string inputs = "variables: ['user:a', 'item:b']\n", sides = "query: 'user:a' title: 'item:b'\n";
  const struct {
    std::string features, expected;
  } kCases[] = {
      {One("expr_feature", inputs + "expression: 'a + c'"),
       "p:4:1: feature_configs[0].expr_feature.expression: \"a + c\", character 5: 'c' is no variable (a, b)"},
      {One("expr_feature", inputs + "expression: 'a +'"),
       "character 4: expected a number, a variable, a function or '('"},
      {One("expr_feature", inputs), "feature_configs[0].expr_feature.expression: \"\", character 1: expected a number"},
      {One("expr_feature", "expression: '1'"), "feature_configs[0].expr_feature: variables has to name an input"},
      {One("expr_feature", "variables: 'user:a'\n variables: 'const:3' expression: 'a'"),
       "p:4:2: feature_configs[0].expr_feature.variables[1]: 'const:3' has no name"},
      {One("expr_feature", "variables: 'user:a'\n variables: 'item:a' expression: 'a'"),
       "p:4:2: feature_configs[0].expr_feature.variables[1]: the name 'a' is used twice"},
      {One("expr_feature", "variables: 'user:a' expression: 'a'\nvalue_dim: 0"),
       "p:4:1: feature_configs[0].expr_feature.value_dim: must be at least 1 without boundaries"},
      {One("expr_feature", "variables: 'feature:a' expression: 'a'"), "there is no feature 'a'"},
      {One("overlap_feature", sides + "method: 'is_common'"),
       "p:4:1: feature_configs[0].overlap_feature.method: 'is_common' is not one of query_common_ratio, "},
      {One("overlap_feature", "query: 'q' title: 'item:t' method: 'is_equal'"),
       "overlap_feature.query: 'q' is not <side>:<name>"},
      {One("kv_dot_product", "query: 'user:a' document: 'item:b'\nkv_delimiter: 2"),
       "p:4:1: feature_configs[0].kv_dot_product.kv_delimiter: not supported yet"},
      {One("kv_dot_product", "query: 'user:a' document: 'item:b'\nnormalizer: 'method=log10'"),
       "p:4:1: feature_configs[0].kv_dot_product.normalizer: not supported yet"},
      {One("raw_feature", "expression: 'user:a'\nnormalizer: 'method=expression,expr=log(x'"),
       "p:4:1: feature_configs[0].raw_feature.normalizer: feature f: normalizer method expression: \"log(x\", "
       "character 6: expected an operator, ',' or ')'"},
      {One("overlap_feature", sides + "method: 'is_equal' normalizer: 'method=sqrt'"), "unknown method sqrt"},
  };
  for (const auto& one : kCases) {
    EXPECT_THAT(FeatureFaults(one.features), testing::HasSubstr(one.expected)) << one.features;
  }
}

}  // namespace
}  // namespace anneal::config
