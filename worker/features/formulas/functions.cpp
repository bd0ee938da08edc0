#include "worker/features/formulas/functions.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace anneal::features {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

template <auto F>
void Unary(const Values* in, int64_t n, double* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = F(in[0].data[i]);
}

/// Loops without a stride, which compilers turn into vector instructions.
template <auto F>
void Binary(const Values* in, int64_t n, double* out) {
  const double *a = in[0].data, *b = in[1].data;
  if (in[0].size == in[1].size) {
    for (int64_t i = 0; i < n; ++i) out[i] = F(a[i], b[i]);
  } else if (in[0].size == 1) {
    const double x = *a;
    for (int64_t i = 0; i < n; ++i) out[i] = F(x, b[i]);
  } else {
    const double y = *b;
    for (int64_t i = 0; i < n; ++i) out[i] = F(a[i], y);
  }
}

/// An operand of one value may lie where the first result goes.
template <int kArguments>
struct Operands {
  double single[kArguments];
  const double* data[kArguments];
  int64_t stride[kArguments];

  explicit Operands(const Values* in) {
    for (int k = 0; k < kArguments; ++k) {
      single[k] = *in[k].data;
      stride[k] = in[k].size == 1 ? 0 : 1;
      data[k] = stride[k] == 0 ? &single[k] : in[k].data;
    }
  }
  double operator()(int k, int64_t i) const { return data[k][i * stride[k]]; }
};

void Choose(const Values* in, int64_t n, double* out) {
  const Operands<3> at(in);
  for (int64_t i = 0; i < n; ++i) out[i] = at(0, i) != 0 ? at(1, i) : at(2, i);
}

template <auto F>
void Quaternary(const Values* in, int64_t n, double* out) {
  const Operands<4> at(in);
  for (int64_t i = 0; i < n; ++i) out[i] = F(at(0, i), at(1, i), at(2, i), at(3, i));
}

template <auto F>
void Reduction(const Values* in, int64_t, double* out) {
  *out = F(in[0]);
}

template <auto F>
void PairReduction(const Values* in, int64_t n, double* out) {
  *out = F(in[0], in[1], n);
}

double Least(double a, double b) { return std::isnan(a) || a < b ? a : b; }
double Most(double a, double b) { return std::isnan(a) || a > b ? a : b; }
double Plus(double a, double b) { return a + b; }

template <auto F>
double Fold(const Values& x) {
  double result = x.data[0];
  for (int64_t i = 1; i < x.size; ++i) result = F(result, x.data[i]);
  return result;
}

double Mean(const Values& x) { return Fold<Plus>(x) / static_cast<double>(x.size); }

double SquaredNorm(const Values& x) {
  double sum = 0;
  for (int64_t i = 0; i < x.size; ++i) sum += x.data[i] * x.data[i];
  return sum;
}

/// Sum of squared differences from the mean over n - `less`.
template <int less>
double Variance(const Values& x) {
  const double mean = Mean(x);
  double sum = 0;
  for (int64_t i = 0; i < x.size; ++i) sum += (x.data[i] - mean) * (x.data[i] - mean);
  return sum / static_cast<double>(x.size - less);
}

double Dot(const Values& a, const Values& b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

double EuclideanDistance(const Values& a, const Values& b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

double Correlation(const Values& a, const Values& b, int64_t n) {
  const double mean_a = Mean(a), mean_b = Mean(b);
  double ab = 0, aa = 0, bb = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double da = a[i] - mean_a, db = b[i] - mean_b;
    ab += da * db;
    aa += da * da;
    bb += db * db;
  }
  return ab / std::sqrt(aa * bb);
}

double Sign(double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : x; }

/// Bits of two whole numbers.
template <auto F>
double Bits(double a, double b) {
  constexpr double kEnd = 9223372036854775808.0;  // 2^63
  if (!(a >= -kEnd && a < kEnd && b >= -kEnd && b < kEnd)) return kNan;
  return static_cast<double>(F(static_cast<int64_t>(a), static_cast<int64_t>(b)));
}

double RoundTo(double x, double digits) {
  const double scale = std::pow(10.0, std::abs(std::trunc(digits)));
  const double result = digits < 0 ? std::round(x / scale) * scale : std::round(x * scale) / scale;
  return std::isfinite(x) && !std::isnan(digits) && !std::isfinite(result) ? digits < 0 ? 0.0 : x : result;
}

constexpr double kEarthRadius = 6371, kRadians = std::numbers::pi / 180;

/// Exact for near points too, as the law of cosines is not.
double Haversine(double lng1, double lat1, double lng2, double lat2) {
  const double dy = std::sin((lat2 - lat1) * kRadians / 2), dx = std::sin((lng2 - lng1) * kRadians / 2);
  const double h = dy * dy + std::cos(lat1 * kRadians) * std::cos(lat2 * kRadians) * dx * dx;
  return 2 * kEarthRadius * std::asin(std::sqrt(std::min(h, 1.0)));
}

constexpr int kAny = Function::kAny;

const Function kFunctions[] = {
    {"rnd", 0, nullptr},
    {"isnan", 1, Unary<[](double x) { return std::isnan(x) ? 1.0 : 0.0; }>},
    {"sin", 1, Unary<[](double x) { return std::sin(x); }>},
    {"cos", 1, Unary<[](double x) { return std::cos(x); }>},
    {"tan", 1, Unary<[](double x) { return std::tan(x); }>},
    {"asin", 1, Unary<[](double x) { return std::asin(x); }>},
    {"acos", 1, Unary<[](double x) { return std::acos(x); }>},
    {"atan", 1, Unary<[](double x) { return std::atan(x); }>},
    {"sinh", 1, Unary<[](double x) { return std::sinh(x); }>},
    {"cosh", 1, Unary<[](double x) { return std::cosh(x); }>},
    {"tanh", 1, Unary<[](double x) { return std::tanh(x); }>},
    {"asinh", 1, Unary<[](double x) { return std::asinh(x); }>},
    {"acosh", 1, Unary<[](double x) { return std::acosh(x); }>},
    {"atanh", 1, Unary<[](double x) { return std::atanh(x); }>},
    {"log2", 1, Unary<[](double x) { return std::log2(x); }>},
    {"log10", 1, Unary<[](double x) { return std::log10(x); }>},
    {"log", 1, Unary<[](double x) { return std::log(x); }>},
    {"ln", 1, Unary<[](double x) { return std::log(x); }>},
    {"exp", 1, Unary<[](double x) { return std::exp(x); }>},
    {"sqrt", 1, Unary<[](double x) { return std::sqrt(x); }>},
    {"sign", 1, Unary<Sign>},
    {"abs", 1, Unary<[](double x) { return std::abs(x); }>},
    {"rint", 1, Unary<[](double x) { return std::floor(x + 0.5); }>},
    {"floor", 1, Unary<[](double x) { return std::floor(x); }>},
    {"ceil", 1, Unary<[](double x) { return std::ceil(x); }>},
    {"trunc", 1, Unary<[](double x) { return std::trunc(x); }>},
    {"round", 1, Unary<[](double x) { return std::round(x); }>},
    {"roundp", 2, Binary<RoundTo>},
    {"mod", 2, Binary<[](double a, double b) { return std::fmod(a, b); }>},
    {"sigmoid", 1, Unary<[](double x) { return 1 / (1 + std::exp(-x)); }>},
    {"sphere_dist", 4, Quaternary<Haversine>},
    {"haversine", 4, Quaternary<Haversine>},
    {"min", kAny, Binary<Least>},
    {"max", kAny, Binary<Most>},
    {"sum", kAny, Binary<Plus>},
    {"avg", kAny, Binary<Plus>},
    {"len", 1, Reduction<[](const Values& x) { return static_cast<double>(x.size); }>, true},
    {"l2_norm", 1, Reduction<[](const Values& x) { return std::sqrt(SquaredNorm(x)); }>, true},
    {"squared_norm", 1, Reduction<SquaredNorm>, true},
    {"dot", 2, PairReduction<Dot>, true},
    {"euclid_dist", 2, PairReduction<EuclideanDistance>, true},
    {"corr", 2, PairReduction<Correlation>, true},
    {"std_dev", 1, Reduction<[](const Values& x) { return std::sqrt(Variance<0>(x)); }>, true},
    {"pop_std_dev", 1, Reduction<[](const Values& x) { return std::sqrt(Variance<1>(x)); }>, true},
    {"variance", 1, Reduction<Variance<0>>, true},
    {"pop_variance", 1, Reduction<Variance<1>>, true},
    {"reduce_min", 1, Reduction<Fold<Least>>, true},
    {"reduce_max", 1, Reduction<Fold<Most>>, true},
    {"reduce_sum", 1, Reduction<Fold<Plus>>, true},
    {"reduce_mean", 1, Reduction<Mean>, true},
    {"reduce_prod", 1, Reduction<Fold<[](double a, double b) { return a * b; }>>, true},
};

/// Of two that begin alike the longer one stands first.
const BinaryOperator kOperators[] = {
    {{"||", 2, Binary<[](double a, double b) { return a != 0 || b != 0 ? 1.0 : 0.0; }>}, 1},
    {{"&&", 2, Binary<[](double a, double b) { return a != 0 && b != 0 ? 1.0 : 0.0; }>}, 2},
    {{"|", 2, Binary<Bits<[](int64_t a, int64_t b) { return a | b; }>>}, 3},
    {{"&", 2, Binary<Bits<[](int64_t a, int64_t b) { return a & b; }>>}, 4},
    {{"<=", 2, Binary<[](double a, double b) { return a <= b ? 1.0 : 0.0; }>}, 5},
    {{">=", 2, Binary<[](double a, double b) { return a >= b ? 1.0 : 0.0; }>}, 5},
    {{"!=", 2, Binary<[](double a, double b) { return a != b ? 1.0 : 0.0; }>}, 5},
    {{"==", 2, Binary<[](double a, double b) { return a == b ? 1.0 : 0.0; }>}, 5},
    {{">", 2, Binary<[](double a, double b) { return b < a ? 1.0 : 0.0; }>}, 5},
    {{"<", 2, Binary<[](double a, double b) { return a < b ? 1.0 : 0.0; }>}, 5},
    {{"+", 2, Binary<Plus>}, 6},
    {{"-", 2, Binary<[](double a, double b) { return a - b; }>}, 6},
    {{"*", 2, Binary<[](double a, double b) { return a * b; }>}, 7},
    {{"/", 2, Binary<[](double a, double b) { return a / b; }>}, 7},
};

}  // namespace

const Function* FindFunction(std::string_view name) {
  const auto found =
      std::find_if(std::begin(kFunctions), std::end(kFunctions), [&](const Function& one) { return one.name == name; });
  return found == std::end(kFunctions) ? nullptr : found;
}

const BinaryOperator* FindBinaryOperator(std::string_view text) {
  const auto found = std::find_if(std::begin(kOperators), std::end(kOperators),
                                  [&](const BinaryOperator& one) { return text.starts_with(one.function.name); });
  return found == std::end(kOperators) ? nullptr : found;
}

const Function& Power() {
  static const Function power{"^", 2, Binary<[](double a, double b) { return std::pow(a, b); }>};
  return power;
}

const Function& Negation() {
  static const Function negation{"-", 1, Unary<[](double x) { return -x; }>};
  return negation;
}

const Function& Choice() {
  static const Function choice{"?:", 3, Choose};
  return choice;
}

}  // namespace anneal::features
