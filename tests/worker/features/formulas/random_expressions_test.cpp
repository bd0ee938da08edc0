// Random expressions, each written twice: as a user would, with as few brackets as the precedences of
// parity/features.md 4.12 allow, and as calls within calls. expressions.py evaluates the second.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "worker/features/formulas/expression.h"

namespace anneal::features {
namespace {

/// How tight a text binds; what it would need brackets within.
enum Tightness { kChoice, kOr, kAnd, kBitOr, kBitAnd, kCompare, kAdd, kMultiply, kSign, kPower, kOne };

struct Text {
  std::string infix, calls;
  Tightness tightness = kOne;
};

class Generator {
 public:
  explicit Generator(uint32_t seed) : random_(seed) {}

  int Below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }
  /// A multiple of a quarter.
  double Number() { return (Below(65) - 32) / 4.0; }

  /// `variables`: those that may stand outside of vector functions; `all`: within.
  Text Tree(int depth, const std::vector<std::string>& variables, const std::vector<std::string>& all, bool vectors) {
    const auto below = [&] { return Tree(depth - 1, variables, all, vectors); };
    if (depth == 0) return Leaf(variables);
    switch (Below(vectors ? 9 : 7)) {
      case 0:
        return Leaf(variables);
      case 1: {
        const Text x = below();
        return {"-" + Within(x, kSign), "neg(" + x.calls + ")", kSign};
      }
      case 2: {
        const Text x = below(), y = below();
        return {Within(x, kOne) + Blank() + "^" + Blank() + Within(y, kSign), Call("power", {x, y}), kPower};
      }
      case 3: {
        const Text c = below(), x = below(), y = below();
        return {Within(c, kOr) + " ? " + Within(x, kChoice) + " : " + Within(y, kChoice), Call("choose", {c, x, y}),
                kChoice};
      }
      case 4: {
        static const std::vector<std::pair<const char*, int>> kFunctions = {
            {"isnan", 1}, {"sin", 1},   {"cos", 1},    {"tan", 1},       {"asin", 1},       {"acos", 1},
            {"atan", 1},  {"sinh", 1},  {"cosh", 1},   {"tanh", 1},      {"asinh", 1},      {"acosh", 1},
            {"atanh", 1}, {"log2", 1},  {"log10", 1},  {"log", 1},       {"ln", 1},         {"exp", 1},
            {"sqrt", 1},  {"sign", 1},  {"abs", 1},    {"rint", 1},      {"floor", 1},      {"ceil", 1},
            {"trunc", 1}, {"round", 1}, {"roundp", 2}, {"mod", 2},       {"sigmoid", 1},    {"min", 3},
            {"max", 2},   {"sum", 3},   {"avg", 3},    {"haversine", 4}, {"sphere_dist", 4}};
        const auto& [name, count] = kFunctions[Below(static_cast<int>(kFunctions.size()))];
        std::vector<Text> arguments;
        for (int i = 0; i < count; ++i) arguments.push_back(count == 4 ? Leaf(variables) : below());  // degrees
        std::string infix = std::string(name) + "(";
        for (int i = 0; i < count; ++i) infix += (i == 0 ? "" : ", ") + arguments[i].infix;
        return {infix + ")", Call("f_" + std::string(name), arguments), kOne};
      }
      case 7:
      case 8: {
        static const std::vector<std::pair<const char*, int>> kFunctions = {
            {"len", 1},        {"l2_norm", 1},    {"squared_norm", 1}, {"dot", 2},         {"euclid_dist", 2},
            {"corr", 2},       {"std_dev", 1},    {"pop_std_dev", 1},  {"variance", 1},    {"pop_variance", 1},
            {"reduce_min", 1}, {"reduce_max", 1}, {"reduce_sum", 1},   {"reduce_mean", 1}, {"reduce_prod", 1}};
        const auto& [name, count] = kFunctions[Below(static_cast<int>(kFunctions.size()))];
        std::vector<Text> arguments;
        for (int i = 0; i < count; ++i) arguments.push_back(Tree(Below(2), all, all, false));
        std::string infix = std::string(name) + "(" + arguments[0].infix;
        if (count == 2) infix += "," + arguments[1].infix;
        return {infix + ")", Call("f_" + std::string(name), arguments), kOne};
      }
      default: {
        static const std::vector<std::tuple<const char*, const char*, Tightness>> kOperators = {
            {"||", "either", kOr},   {"&&", "both", kAnd},   {"|", "bit_or", kBitOr}, {"&", "bit_and", kBitAnd},
            {"<=", "le", kCompare},  {">=", "ge", kCompare}, {"!=", "ne", kCompare},  {"==", "eq", kCompare},
            {">", "gt", kCompare},   {"<", "lt", kCompare},  {"+", "add", kAdd},      {"-", "sub", kAdd},
            {"*", "mul", kMultiply}, {"/", "div", kMultiply}};
        const auto& [sign, name, tightness] = kOperators[Below(static_cast<int>(kOperators.size()))];
        const Text x = below(), y = below();
        return {Within(x, tightness) + Blank() + sign + Blank() + Within(y, static_cast<Tightness>(tightness + 1)),
                Call(name, {x, y}), tightness};
      }
    }
  }

 private:
  Text Leaf(const std::vector<std::string>& variables) {
    if (!variables.empty() && Below(3) > 0) {
      const std::string& name = variables[Below(static_cast<int>(variables.size()))];
      return {name, name, kOne};
    }
    switch (Below(8)) {
      case 0:
        return {"_pi", "one(pi)", kOne};
      case 1:
        return {"_e", "one(e)", kOne};
      default: {
        char text[32];
        std::snprintf(text, sizeof text, "%g", Below(40) / 8.0);
        return {text, "one(" + std::string(text) + ")", kOne};
      }
    }
  }

  std::string Blank() { return Below(2) == 0 ? "" : " "; }

  /// Brackets where they have to be, and sometimes elsewhere.
  std::string Within(const Text& x, Tightness least) {
    return x.tightness < least || Below(10) == 0 ? "(" + x.infix + ")" : x.infix;
  }

  static std::string Call(const std::string& name, const std::vector<Text>& arguments) {
    std::string text = name + "(";
    for (const Text& one : arguments) text += (&one == arguments.data() ? "" : ", ") + one.calls;
    return text + ")";
  }

  std::mt19937 random_;
};

nlohmann::json Written(const double* values, int64_t size) {
  nlohmann::json list = nlohmann::json::array();
  for (int64_t i = 0; i < size; ++i) {
    char text[40];  // also of NaN and infinities, which JSON has not
    std::snprintf(text, sizeof text, "%.17g", values[i]);
    list.push_back(text);
  }
  return list;
}

TEST(RandomExpressions, AreWrittenForPython) {
  Generator generator(4);
  nlohmann::json cases = nlohmann::json::array();
  Expression::Scratch scratch;
  for (int i = 0; i < 6000; ++i) {
    const int size = i % 3 == 0 ? 1 : 2 + generator.Below(4);
    const bool reduces = i % 3 == 2;
    const std::vector<std::string> names = {"a", "b", "c"};  // c is one value
    std::vector<std::vector<double>> vectors(3);
    for (int v = 0; v < 3; ++v) {
      vectors[v].resize(v == 2 || (v == 1 && generator.Below(3) == 0) ? 1 : size);
      for (double& x : vectors[v]) x = generator.Number();
    }
    const Text text =
        generator.Tree(1 + generator.Below(5), reduces ? std::vector<std::string>{"c"} : names, names, reduces);
    const Expression expression(text.infix, names, "");
    std::vector<Values> values;
    for (const auto& vector : vectors) values.push_back({vector.data(), std::ssize(vector)});
    const Values result = expression.EvaluateRow(values, 0, scratch);
    nlohmann::json one = {{"text", text.infix}, {"calls", text.calls}, {"result", Written(result.data, result.size)}};
    for (int v = 0; v < 3; ++v) one[names[v]] = Written(vectors[v].data(), std::ssize(vectors[v]));
    cases.push_back(std::move(one));
  }
  std::ofstream("expressions.json") << cases.dump();
}

}  // namespace
}  // namespace anneal::features
