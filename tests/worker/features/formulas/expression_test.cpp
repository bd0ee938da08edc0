#include "worker/features/formulas/expression.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <thread>

#include "worker/config/error.h"
#include "worker/features/refusal.h"

namespace anneal::features {
namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kInfinity = std::numeric_limits<double>::infinity();

using Vectors = std::vector<std::vector<double>>;

/// Of the variables a, b, c, ... in one row.
std::vector<double> Row(const std::string& text, const Vectors& vectors, double fill = kNan) {
  std::vector<std::string> names;
  std::vector<Values> values;
  for (const auto& vector : vectors) {
    names.emplace_back(1, static_cast<char>('a' + names.size()));
    values.push_back({vector.data(), static_cast<int64_t>(vector.size())});
  }
  Expression expression(text, names, "");
  expression.fill = fill;
  Expression::Scratch scratch;
  const Values result = expression.EvaluateRow(values, 0, scratch);
  return {result.data, result.data + result.size};
}

double Number(const std::string& text, const Vectors& vectors = {}) {
  const std::vector<double> result = Row(text, vectors);
  EXPECT_EQ(result.size(), 1u) << text;
  return result[0];
}

std::string FaultOf(const std::string& text, const std::vector<std::string>& names = {"a", "b"}) {
  try {
    Expression(text, names, "f: ");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(Expression, PrecedenceAndOrder) {
  const struct {
    const char* text;
    double expected;
  } kCases[] = {{"1 + 2 * 3", 7},
                {"(1 + 2) * 3", 9},
                {"10 - 4 - 3", 3},
                {"100 / 10 / 5", 2},
                {"2 ^ 3 ^ 2", 512},
                {"(2 ^ 3) ^ 2", 64},
                {"2 * 3 ^ 2", 18},
                {"-2 ^ 2", -4},
                {"(-2) ^ 2", 4},
                {"2 ^ -1", 0.5},
                {"2 ^ -1 ^ 2", 0.5},
                {"3 + -3 ^ 2", -6},
                {"- - 3", 3},
                {"+-+3", -3},
                {"2*-3", -6},
                {"1 < 2 + 3", 1},
                {"3 > 2 > 1", 0},
                {"2 == 2 != 0", 1},
                {"6 & 3 == 3", 0},  // 6 & (3 == 3)
                {"(6 & 3) == 3", 0},
                {"7 & 3 == 3", 1},
                {"4 | 6 & 3", 6},
                {"1 | 6 && 0", 0},
                {"1 || 0 && 0", 1},
                {"0 && 1 || 1", 1},
                {"0 || 0 && 1", 0},
                {"1 || 1 ? 2 : 3", 2},
                {"0 ? 1 : 0 ? 2 : 3", 3},
                {"1 ? 0 ? 4 : 5 : 6", 5},
                {"1 ? 2 : 3 + 10", 2},
                {"1 + 1 ? 2 : 3", 2},
                {"1>2?3:4", 4},
                {"1 - -1", 2},
                {"\t 1 \n + 1 ", 2},
                {".5 + 1. + 1e-1 + 2E1", 21.6},
                {"_pi", 3.141592653589793},
                {"_e", 2.718281828459045},
                {"3.7 & 2.9", 2},
                {"-1 & 255", 255},
                {"1 / 0", kInfinity},
                {"-1 / 0", -kInfinity}};
  for (const auto& one : kCases) EXPECT_DOUBLE_EQ(Number(one.text), one.expected) << one.text;
}

TEST(Expression, Functions) {
  const struct {
    const char* text;
    double expected;
  } kCases[] = {{"sin(0.5)", std::sin(0.5)},
                {"cos(0.5)", std::cos(0.5)},
                {"tan(0.5)", std::tan(0.5)},
                {"asin(0.5)", 0.5235987755982989},
                {"acos(0.5)", 1.0471975511965979},
                {"atan(1)", 0.7853981633974483},
                {"sinh(1)", (std::exp(1.0) - std::exp(-1.0)) / 2},
                {"cosh(1)", (std::exp(1.0) + std::exp(-1.0)) / 2},
                {"tanh(0.5)", (std::exp(1.0) - 1) / (std::exp(1.0) + 1)},
                {"asinh(0.5)", std::log(0.5 + std::sqrt(1.25))},
                {"acosh(2)", std::log(2 + std::sqrt(3.0))},
                {"atanh(0.5)", std::log(3.0) / 2},
                {"log2(8)", 3},
                {"log10(1000)", 3},
                {"log(_e)", 1},
                {"ln(_e ^ 2)", 2},
                {"exp(1)", 2.718281828459045},
                {"sqrt(16)", 4},
                {"sign(-0.5)", -1},
                {"sign(0)", 0},
                {"sign(0.5)", 1},
                {"abs(-3)", 3},
                {"rint(2.4)", 2},
                {"rint(2.5)", 3},
                {"rint(-2.5)", -2},
                {"floor(-1.5)", -2},
                {"ceil(-1.5)", -1},
                {"trunc(-1.5)", -1},
                {"round(2.5)", 3},
                {"round(-2.5)", -3},
                {"roundp(3.14159, 2)", 3.14},
                {"roundp(2.5, 0)", 3},
                {"roundp(1250, -2)", 1300},
                {"roundp(1e300, 20)", 1e300},
                {"roundp(5, -400)", 0},
                {"mod(7, 3)", 1},
                {"mod(-7, 3)", -1},
                {"mod(5.5, 2)", 1.5},
                {"sigmoid(0)", 0.5},
                {"sigmoid(log(3))", 0.75},
                {"min(3)", 3},
                {"min(3, 1, 2)", 1},
                {"max(3, 1, 2)", 3},
                {"sum(1, 2, 3, 4)", 10},
                {"avg(1, 2, 3, 4)", 2.5},
                {"avg(7)", 7},
                {"isnan(0 / 0)", 1},
                {"isnan(1 / 0)", 0},
                // A quarter of the sphere, and half of it.
                {"sphere_dist(0, 0, 90, 0)", 6371 * 1.5707963267948966},
                {"haversine(0, 0, 90, 0)", 6371 * 1.5707963267948966},
                {"haversine(0, -90, 17, 90)", 6371 * 3.141592653589793},
                {"sphere_dist(12, 34, 12, 34)", 0}};
  for (const auto& one : kCases)
    EXPECT_NEAR(Number(one.text), one.expected, 1e-12 * std::abs(one.expected)) << one.text;
  // Berlin to Paris.
  EXPECT_NEAR(Number("haversine(13.405, 52.52, 2.3522, 48.8566)"), 877.46, 0.01);
  EXPECT_NEAR(Number("sphere_dist(13.405, 52.52, 2.3522, 48.8566)"), 877.46, 0.01);
}

TEST(Expression, VectorFunctions) {
  const Vectors vectors = {{1, 2, 3, 4}, {2, 4, 6, 9}};
  const struct {
    const char* text;
    double expected;
  } kCases[] = {{"len(a)", 4},
                {"squared_norm(a)", 30},
                {"l2_norm(a)", std::sqrt(30.0)},
                {"dot(a, b)", 2 + 8 + 18 + 36},
                {"euclid_dist(a, b)", std::sqrt(1 + 4 + 9 + 25.0)},
                {"variance(a)", 1.25},
                {"std_dev(a)", std::sqrt(1.25)},
                {"pop_variance(a)", 5.0 / 3},
                {"pop_std_dev(a)", std::sqrt(5.0 / 3)},
                {"reduce_min(b)", 2},
                {"reduce_max(b)", 9},
                {"reduce_sum(b)", 21},
                {"reduce_mean(b)", 5.25},
                {"reduce_prod(a)", 24},
                // sums of products of differences from the means 2.5 and 5.25: 11.5, 5, 26.75
                {"corr(a, b)", 11.5 / std::sqrt(5 * 26.75)},
                {"corr(a, 2 * a + 1)", 1},
                {"reduce_sum(a * b)", 64},
                {"dot(a, 2)", 20},
                {"len(a + 1) + reduce_max(b) * 2", 22}};
  for (const auto& one : kCases) EXPECT_DOUBLE_EQ(Number(one.text, vectors), one.expected) << one.text;
  EXPECT_TRUE(std::isnan(Number("corr(a, 1)", vectors)));
  EXPECT_TRUE(std::isnan(Number("pop_variance(1)")));
  EXPECT_DOUBLE_EQ(Number("reduce_mean(a) + c", {{1, 2, 3}, {1}, {10}}), 12);
  EXPECT_THROW(Number("reduce_mean(a) + b", vectors), Refusal);
}

TEST(Expression, ValuesOfVectorsAreTakenOneByOne) {
  using testing::ElementsAre;
  EXPECT_THAT(Row("a + b", {{1, 2, 3}, {10}}), ElementsAre(11, 12, 13));
  EXPECT_THAT(Row("a + b", {{10}, {1, 2, 3}}), ElementsAre(11, 12, 13));
  EXPECT_THAT(Row("b - a * 2", {{1, 2}, {1, 1}}), ElementsAre(-1, -3));
  EXPECT_THAT(Row("a > 1 ? b : 0", {{1, 2, 3}, {7}}), ElementsAre(0, 7, 7));
  EXPECT_THAT(Row("2 > 1 ? a : b", {{1, 2}, {5}}), ElementsAre(1, 2));
  EXPECT_THAT(Row("(1 + 1 > 1) ? a : b", {{1, 2}, {5}}), ElementsAre(1, 2));
  EXPECT_THAT(Row("max(1 + 1, a, b)", {{1, 2, 3}, {0}}), ElementsAre(2, 2, 3));
  EXPECT_THAT(Row("haversine(1 + 1, a, 2, a)", {{1, 2}}), ElementsAre(0, 0));
  EXPECT_THAT(Row("a", {{1, 2}}), ElementsAre(1, 2));
  EXPECT_THAT(Row("a + b", {{1, 2, 3}, {10, 20}}, 5), ElementsAre(11, 22, 8));
  EXPECT_THAT(Row("a + b + c", {{1}, {10, 20}, {1, 1, 1}}, 0), ElementsAre(12, 22, 1));
  EXPECT_THAT(Row("a + b", {{1, 2, 3}, {10, 20}}), ElementsAre(11, 22, testing::IsNan()));
  EXPECT_THAT(Row("dot(a, b)", {{1, 2, 3}, {10, 20}}, 1), ElementsAre(10 + 40 + 3));
  EXPECT_THAT(Row("len(b)", {{1, 2, 3}, {10, 20}}, 1), ElementsAre(2));
}

TEST(Expression, RulesOfNan) {
  for (const char* text : {"a + 1",
                           "a * 0",
                           "min(a, 1)",
                           "min(1, a)",
                           "max(a, 1)",
                           "max(1, a)",
                           "sign(a)",
                           "abs(a)",
                           "sum(1, a)",
                           "avg(a, 1)",
                           "roundp(a, 1)",
                           "roundp(1, a)",
                           "mod(a, 2)",
                           "a & 1",
                           "1 | a",
                           "sqrt(-1)",
                           "log(-1)",
                           "0 / 0",
                           "asin(2)",
                           "mod(1, 0)",
                           "(1 / 0) & 1",
                           "1e19 | 1",
                           "sphere_dist(a, 0, 0, 0)",
                           "haversine(0, 0, 0, a)",
                           "sigmoid(a)",
                           "reduce_min(a)"}) {
    EXPECT_TRUE(std::isnan(Number(text, {{kNan}}))) << text;
  }
  for (const char* text : {"a != a", "a && 1", "a || 0", "a ? 1 : 0", "isnan(a)", "len(a)", "a ^ 0"}) {
    EXPECT_EQ(Number(text, {{kNan}}), 1) << text;
  }
  for (const char* text : {"a == a", "a < 1", "a > 1", "a <= 1", "a >= 1"}) {
    EXPECT_EQ(Number(text, {{kNan}}), 0) << text;
  }
  EXPECT_EQ(Number("log(0)"), -kInfinity);
  EXPECT_EQ(Number("sigmoid(-1000)"), 0);
}

TEST(Expression, RowsAreComputedAtOnce) {
  constexpr int64_t kRows = 1000;  // some blocks, the last one not full
  std::vector<double> a(kRows), b(kRows);
  std::mt19937 random(1);
  for (int64_t i = 0; i < kRows; ++i) {
    a[i] = std::uniform_real_distribution<double>(-10, 10)(random);
    b[i] = std::uniform_real_distribution<double>(0, 10)(random);
  }
  const double* const columns[] = {a.data(), b.data()};
  Expression::Scratch scratch;
  for (const char* text : {"a > 0 ? log(b + 1) * a : -a ^ 2", "l2_norm(a) + len(b)", "a", "3", "min(a, b, 1, a * b)"}) {
    const Expression expression(text, {"a", "b"}, "");
    std::vector<float> out(2 * kRows, -1);
    expression.EvaluateRows(columns, kRows, 0, out.data(), 2, scratch);
    for (int64_t i = 0; i < kRows; ++i) {
      ASSERT_EQ(out[2 * i], static_cast<float>(Number(text, {{a[i]}, {b[i]}}))) << text << " " << i;
      ASSERT_EQ(out[2 * i + 1], -1);
    }
  }
}

TEST(Expression, OneNumber) {
  for (const char* text : {"x", "3", "log(x + 3)", "x > 16 ? 16 : x", "-x ^ 2 + min(x, 2, x * x) - avg(x, 1, 5)",
                           "haversine(x, 1 + x, 2, x)", "l2_norm(x) + dot(x, x) + len(x)", "x && (1 | x) || 0"}) {
    const Expression expression(text, {"x"}, "");
    for (const double x : {-20.5, 0.0, 1.0, 17.25, kNan, kInfinity}) {
      Expression::Scratch scratch;
      const Values variable{&x, 1};
      const double expected = *expression.EvaluateRow({&variable, 1}, 0, scratch).data;
      EXPECT_THAT(expression(x), testing::NanSensitiveDoubleEq(expected)) << text << " " << x;
    }
  }
}

TEST(Expression, RandomNumbersFollowFromSeedAndRow) {
  Expression expression("rnd() - rnd() / 2", {}, "");
  ASSERT_TRUE(expression.random());
  Expression::Scratch scratch;
  const auto rows = [&](int64_t first, int64_t count, uint64_t seed) {
    expression.seed = seed;
    std::vector<float> out(count);
    expression.EvaluateRows({}, count, first, out.data(), 1, scratch);
    return out;
  };
  const std::vector<float> all = rows(0, 1000, 7);
  const std::vector<float> late = rows(600, 400, 7);  // a resumed run, another batch size
  EXPECT_TRUE(std::equal(late.begin(), late.end(), all.begin() + 600));
  EXPECT_EQ(static_cast<float>(*expression.EvaluateRow({}, 17, scratch).data), all[17]);
  EXPECT_NE(rows(0, 1000, 8), all);
  // The two calls are apart: both in [0, 1), the difference is uniform minus half of another uniform.
  double sum = 0, squares = 0;
  const std::vector<float> many = rows(0, 100000, 3);
  for (const float x : many) {
    EXPECT_TRUE(x > -0.5f && x < 1);
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / 1e5, 0.25, 0.005);
  EXPECT_NEAR(squares / 1e5 - 0.0625, 1 / 12.0 + 1 / 48.0, 0.005);
  EXPECT_FALSE(Expression("a", {"a"}, "").random());
}

TEST(Expression, OneIsSharedByThreads) {
  const Expression expression("dot(a, b) / l2_norm(a) + reduce_sum(a + b)", {"a", "b"}, "");
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Expression::Scratch scratch;
      for (int64_t i = 1; i < 2000; ++i) {
        const std::vector<double> a(i % 17 + 2, 2), b(i % 5 + 2, 1);
        Expression::Scratch fresh;
        const Values vectors[] = {{a.data(), std::ssize(a)}, {a.data(), std::ssize(a)}};
        const double n = static_cast<double>(a.size());
        const double got = *expression.EvaluateRow(vectors, 0, scratch).data;
        wrong[t] += std::abs(got - (4 * n / (2 * std::sqrt(n)) + 4 * n)) > 1e-9;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, testing::Each(0));
}

TEST(Expression, FaultsSayWhereAndWhatWasExpected) {
  const struct {
    const char *text, *message;
  } kCases[] = {
      {"", "f: \"\", character 1: expected a number, a variable, a function or '(', not the end"},
      {"1 +", "f: \"1 +\", character 4: expected a number, a variable, a function or '(', not the end"},
      {"log(a", "f: \"log(a\", character 6: expected an operator, ',' or ')', not the end"},
      {"(a", "f: \"(a\", character 3: expected an operator or ')', not the end"},
      {"a b", "f: \"a b\", character 3: expected an operator or the end, not \"b\""},
      {"a = 1", "f: \"a = 1\", character 3: expected an operator or the end, not \"=\""},
      {"a ? 1", "f: \"a ? 1\", character 6: expected an operator or ':', not the end"},
      {"a + * b", "f: \"a + * b\", character 5: expected a number, a variable, a function or '(', not \"*\""},
      {"a)", "f: \"a)\", character 2: expected an operator or the end, not \")\""},
      {"c + 1", "f: \"c + 1\", character 1: 'c' is no variable (a, b)"},
      {"1 + lag(a)", "f: \"1 + lag(a)\", character 5: there is no function 'lag'"},
      {"a(1)", "f: \"a(1)\", character 1: there is no function 'a'"},
      {"1 + log + 2", "f: \"1 + log + 2\", character 5: '(' is missing behind the function log"},
      {"log(a, b)", "f: \"log(a, b)\", character 1: log takes 1 argument, not 2"},
      {"log()", "f: \"log()\", character 1: log takes 1 argument, not 0"},
      {"roundp(a)", "f: \"roundp(a)\", character 1: roundp takes 2 arguments, not 1"},
      {"haversine(1,2,3,4,5)", "character 1: haversine takes 4 arguments, not 5"},
      {"rnd(1)", "character 1: rnd takes 0 arguments, not 1"},
      {"max()", "character 1: max takes at least 1 argument, not 0"},
      {"max(1,)", "character 7: expected a number, a variable, a function or '(', not \")\""},
      {"1..2", "character 3: expected an operator behind the number, not \".\""},
      {"1a", "character 2: expected an operator behind the number, not \"a\""},
      {"1e999", "character 1: the number is outside of float64's range"},
      {".", "character 1: expected a number, not \".\""},
      {"!a", "character 1: expected a number, a variable, a function or '(', not \"!\""},
      {"a\xef\xbc\x8b"
       "b",
       "character 2: expected an operator or the end, not \"\xef\xbc\x8b\""},
      {"\xc3\xa4 + b", "character 1: expected a number, a variable, a function or '(', not \"\xc3\xa4\""},
  };
  for (const auto& one : kCases) EXPECT_THAT(FaultOf(one.text), testing::EndsWith(one.message)) << one.text;
  EXPECT_THAT(FaultOf("x", {}), testing::EndsWith("'x' is no variable (there are none)"));
}

TEST(Expression, SizeAndDepthAreBounded) {
  const auto repeat = [](const std::string& text, int times) {
    std::string all;
    for (int i = 0; i < times; ++i) all += text;
    return all;
  };
  EXPECT_EQ(Number(repeat("(", 50) + "1" + repeat(")", 50)), 1);
  EXPECT_EQ(Number("1" + repeat("+1", 5000)), 5001);
  EXPECT_EQ(Number("sum(1" + repeat(",1", 5000) + ")"), 5001);
  const std::string deep = "nested too deeply";
  EXPECT_THAT(FaultOf(repeat("(", 5000)), testing::HasSubstr(deep));
  EXPECT_THAT(FaultOf(repeat("-", 5000) + "1"), testing::HasSubstr(deep));
  EXPECT_THAT(FaultOf("1" + repeat("^1", 5000)), testing::HasSubstr(deep));
  EXPECT_THAT(FaultOf(repeat("1?", 5000)), testing::HasSubstr(deep));
  EXPECT_THAT(FaultOf(repeat("1?1:", 4000) + "1"), testing::HasSubstr(deep));
  EXPECT_THAT(FaultOf(repeat("sin(", 4000) + "1"), testing::HasSubstr(deep));
  EXPECT_THAT(FaultOf(repeat("-a||-a&&-a|-a&-a<-a+-a*(", 50) + "-a" + repeat(")", 50)),
              testing::HasSubstr("values wait for an operator"));
  EXPECT_THAT(FaultOf(repeat(" ", 20000)), testing::HasSubstr("has 20000 bytes, more than 16384"));
}

TEST(Expression, RandomTextsNeverCrash) {
  const std::vector<std::string> words = {"a",  "b",   "x",   "1",  "2.5",  "1e3", "(",    ")",    ",",
                                          "+",  "-",   "*",   "/",  "^",    "?",   ":",    "&",    "&&",
                                          "|",  "||",  "<",   "<=", "==",   "!=",  "log",  "min(", "sum(",
                                          "_e", "dot", "rnd", "()", "len(", " ",   "\x1d", "\xff", ";"};
  std::mt19937 random(20261127);
  const auto pick = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
  const double two[] = {1, 2}, three[] = {1, 2, 3};
  const Values vectors[] = {{two, 2}, {three, 3}};
  Expression::Scratch scratch;
  int64_t compiled = 0;
  for (int round = 0; round < 100000; ++round) {
    std::string text;
    for (size_t left = pick(12) + 1; left > 0; --left) text += words[pick(words.size())];
    if (pick(4) == 0 && !text.empty()) text[pick(text.size())] = static_cast<char>(pick(256));
    try {
      const Expression expression(text, {"a", "b"}, "");
      ++compiled;
      const Values result = expression.EvaluateRow(vectors, round, scratch);
      EXPECT_TRUE(result.size >= 1 && result.size <= 3) << text;
    } catch (const ConfigError&) {
    } catch (const Refusal&) {
    }
  }
  EXPECT_GT(compiled, 1000);
}

}  // namespace
}  // namespace anneal::features
