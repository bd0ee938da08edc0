#include "worker/features/formulas/normalizer.h"

#include <map>

#include "worker/config/error.h"
#include "worker/features/formulas/expression.h"
#include "worker/features/number_text.h"

namespace anneal::features {
namespace {

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

/// The "key=value" parts of a normalizer's text, taken out one by one so that what is left is unknown.
class Arguments {
 public:
  Arguments(const std::string& text, std::string where) : where_(std::move(where)) {
    SplitText(text, ",", [&](std::string_view part) {
      const size_t equals = part.find('=');
      if (equals == std::string_view::npos) Fail("\"" + std::string(part) + "\" is not key=value");
      values_[std::string(Trim(part.substr(0, equals)))] = Trim(part.substr(equals + 1));
      return true;
    });
  }

  std::string Take(const std::string& key) {
    const auto node = values_.extract(key);
    if (node.empty()) Fail("needs " + key);
    return node.mapped();
  }

  double TakeNumber(const std::string& key) {
    const std::string text = Take(key);
    double value = 0;
    if (!ParseNumber(text, &value)) Fail(key + "=\"" + text + "\" is not a number");
    return value;
  }

  double TakeNumber(const std::string& key, double otherwise) {
    return values_.contains(key) ? TakeNumber(key) : otherwise;
  }

  void ExpectNoMore() {
    if (!values_.empty()) Fail("unknown key " + values_.begin()->first);
  }

  [[noreturn]] void Fail(const std::string& what) const { throw ConfigError(where_ + what); }

 private:
  std::map<std::string, std::string> values_;
  std::string where_;
};

/// What stands behind "method=expression,expr=": it may hold commas and '='. Empty when `text` is of another method.
std::string_view ExpressionIn(std::string_view text) {
  const auto take = [&](std::string_view word) {
    text = Trim(text);
    const bool there = text.starts_with(word);
    if (there) text.remove_prefix(word.size());
    return there;
  };
  for (const char* word : {"method", "=", "expression", ",", "expr", "="}) {
    if (!take(word)) return {};
  }
  return Trim(text);
}

}  // namespace

Normalizer Normalizer::FromText(const std::string& text, const std::string& feature) {
  Normalizer result;
  if (text.empty()) return result;
  const std::string where = "feature " + feature + ": normalizer \"" + text + "\": ";
  if (const std::string_view expression = ExpressionIn(text); !expression.empty()) {
    result.kind_ = Kind::kExpression;
    auto compiled = std::make_shared<Expression>(expression, std::vector<std::string>{"x"},
                                                 "feature " + feature + ": normalizer method expression: ");
    if (compiled->random()) throw ConfigError(where + "there is no rnd() in a normalizer");
    result.expression_ = std::move(compiled);
    return result;
  }
  Arguments arguments(text, where);
  const std::string method = arguments.Take("method");
  if (method == "log10") {
    result.kind_ = Kind::kLog10;
    result.first_ = arguments.TakeNumber("threshold", 1e-10);
    result.second_ = arguments.TakeNumber("default", -10);
  } else if (method == "zscore") {
    result.kind_ = Kind::kLinear;
    result.first_ = arguments.TakeNumber("mean");
    result.second_ = arguments.TakeNumber("standard_deviation");
    if (result.second_ == 0) arguments.Fail("standard_deviation is 0");
  } else if (method == "minmax") {
    result.kind_ = Kind::kLinear;
    result.first_ = arguments.TakeNumber("min");
    result.second_ = arguments.TakeNumber("max") - result.first_;
    if (result.second_ == 0) arguments.Fail("min equals max");
  } else if (method == "expression") {
    arguments.Fail("expression is written method=expression,expr=<expression of x>");
  } else {
    arguments.Fail("unknown method " + method + " (supported: log10, zscore, minmax, expression)");
  }
  arguments.ExpectNoMore();
  return result;
}

float Normalizer::Compute(float x) const { return static_cast<float>((*expression_)(x)); }

}  // namespace anneal::features
