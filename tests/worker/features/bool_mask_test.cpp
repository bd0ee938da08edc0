// bool_mask_feature (parity/features.md 4.16).
#include "tests/worker/features/derived_case.h"

namespace anneal::features {
namespace {

using arrow::int64;
using arrow::list;
using arrow::utf8;

const std::string kInputs = "expression: ['user:a', 'user:b'] ";

TEST(BoolMask, Ids) {
  ExpectIds("bool_mask_feature",
            {
                // "x" is 35, "y" 30, "z" 54 modulo 100, "0" 26.
                {kInputs + "hash_bucket_size: 100",
                 {{"a", utf8(), R"(["x\u001dy\u001dz", "x", "x\u001dy", "", null, "x"])"},
                  {"b", utf8(), R"(["true\u001dfalse\u001dtrue", "1", "0\u001d0", "1", "1", null])"}},
                 {35, 54, 35},
                 {2, 1, 0, 0, 0, 0}},
                {kInputs + "hash_bucket_size: 100 default_value: '0'",
                 {{"a", list(utf8()), R"([["x", "y"], ["x"], null])"}, {"b", list(int64()), "[[0, 1], [0], [1]]"}},
                 {30, 26, 26},
                 {1, 1, 1}},
                {kInputs + "num_buckets: 10 value_dim: 1",
                 {{"a", list(int64()), "[[1, 2, 3]]"}, {"b", list(utf8()), R"([["FALSE", "True", "1"]])"}},
                 {2},
                 {1}},
                {kInputs + "vocab_list: ['x', 'y']",
                 {{"a", utf8(), R"(["x\u001dq"])"}, {"b", list(int64()), "[[1, 1]]"}},
                 {2, 1},
                 {2}},
                // An empty value has its place in the mask.
                {kInputs + "separator: ',' hash_bucket_size: 100",
                 {{"a", utf8(), R"(["x,,z"])"}, {"b", utf8(), R"(["1,1,0"])"}},
                 {35},
                 {1}},
            });
}

TEST(BoolMask, OfSequencesElements) {
  const std::string both = kInputs + "sequence_fields: ['a', 'b'] hash_bucket_size: 100 ";
  ExpectIds("sequence_bool_mask_feature",
            {
                {both,
                 {{"a", utf8(), R"(["x;y;z", "x;y", null])"}, {"b", utf8(), R"(["1;0;1", "0;0", "1"])"}},
                 {35, 54, 26, 26},
                 {2, 1, 1}},
                {both + "sequence_length: 2",
                 {{"a", list(utf8()), R"([["x", "y", "z"]])"}, {"b", list(int64()), "[[1, 1, 1]]"}},
                 {35, 30},
                 {2}},
            });
}

TEST(BoolMask, WhatIsWrongIsNamed) {
  const std::string hashed = kInputs + "hash_bucket_size: 100";
  ExpectBad("bool_mask_feature",
            {
                {hashed,
                 {{"a", utf8(), R"(["x", "x\u001dy"])"}, {"b", utf8(), R"(["1", "1"])"}},
                 "row 2, column a: has 2 values, its mask 1 values (feature f)"},
                {hashed,
                 {{"a", utf8(), R"(["x"])"}, {"b", utf8(), R"(["yes"])"}},
                 "row 1, column a: has a mask of \"yes\", which is neither true, false, 1 nor 0 (feature f)"},
                {kInputs + "num_buckets: 9",
                 {{"a", utf8(), R"(["x"])"}, {"b", utf8(), R"(["1"])"}},
                 "row 1, column a: \"x\" is not an integer (feature f)"},
            });
  ExpectBad("sequence_bool_mask_feature",
            {{hashed + " sequence_fields: ['a', 'b']",
              {{"a", utf8(), R"(["x;y"])"}, {"b", utf8(), R"(["1"])"}},
              "row 1, column a: has a sequence of 1 elements in column b, in column a of 2 (feature f)"}});
}

}  // namespace
}  // namespace anneal::features
