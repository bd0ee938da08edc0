#include "worker/features/formulas/normalizer.h"

#include <gmock/gmock.h>

#include "tests/worker/features/feature_case.h"

namespace anneal::features {
namespace {

TEST(Normalizer, Formulas) {
  const struct {
    const char* text;
    float x, expected;
  } kCases[] = {{"", 7, 7},
                {"method=log10", 100, 2},
                {"method=log10,threshold=1e-10,default=-10", 0, -10},
                {"method=log10, threshold=5, default=0.5", 5, 0.5f},
                {"method=zscore,mean=10,standard_deviation=4", 12, 0.5f},
                {"method=minmax,min=2,max=4.5", 4.5f, 1},
                {"method=minmax,min=2,max=4", 1, -0.5f},
                {"method=expression,expr=log(x+3)", 5, 2.0794415f},
                {"method=expression,expr=x>16?16:x", 20, 16},
                {"method = expression , expr = max(x, 2) == 2 ? -1 : x ", 1, -1},
                {"method=expression,expr=3", 1, 3}};
  for (const auto& one : kCases) {
    EXPECT_FLOAT_EQ(Normalizer::FromText(one.text, "f")(one.x), one.expected) << one.text;
  }
}

TEST(Normalizer, Faults) {
  const struct {
    const char *text, *part;
  } kCases[] = {{"method=zscore,mean=1", "needs standard_deviation"},
                {"method=zscore,mean=a,standard_deviation=1", "mean=\"a\" is not a number"},
                {"method=zscore,mean=1,standard_deviation=0", "standard_deviation is 0"},
                {"method=minmax,min=3,max=3", "min equals max"},
                {"method=minmax,min=3,max=4,mean=1", "unknown key mean"},
                {"method=sqrt", "unknown method sqrt"},
                {"log10", "\"log10\" is not key=value"},
                {"method=expression,expr=log(x+y)", "expression: \"log(x+y)\", character 7: 'y' is no variable (x)"},
                {"method=expression,expr=x+rnd()", "there is no rnd() in a normalizer"},
                {"method=expression,expr=", "expression is written method=expression,expr=<expression of x>"},
                {"expr=x,method=expression", "expression is written method=expression,expr=<expression of x>"}};
  for (const auto& one : kCases) {
    const std::string message = MessageOf([&] { Normalizer::FromText(one.text, "price"); });
    EXPECT_THAT(message, testing::AllOf(testing::HasSubstr("feature price: normalizer"), testing::HasSubstr(one.part)));
  }
}

}  // namespace
}  // namespace anneal::features
