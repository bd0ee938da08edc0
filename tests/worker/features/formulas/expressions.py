"""Python's arithmetic on the expressions of random_expressions_test.cpp. Usage: expressions.py EXPRESSIONS_FILE"""
import json
import math
import statistics
import sys

nan, inf, pi, e = math.nan, math.inf, math.pi, math.e


def each(function):
    """The function value by value; one value goes with every value of the others."""
    def call(*arguments):
        size = max(len(x) for x in arguments)
        assert all(len(x) in (1, size) for x in arguments)
        return [float(function(*(x[0] if len(x) == 1 else x[i] for x in arguments))) for i in range(size)]
    return call


def whole(function, count=1):
    """The function of whole vectors."""
    def call(*arguments):
        size = max(len(x) for x in arguments)
        return [float(function(*(x * size if count == 2 and len(x) == 1 else x for x in arguments)))]
    return call


def c_rules(function, otherwise):
    """NaN where there is one; `otherwise` where Python raises and C does not."""
    def call(*x):
        if any(map(math.isnan, x)):
            return nan
        try:
            return function(*x)
        except (ValueError, OverflowError, ZeroDivisionError):
            return otherwise(*x)
    return call


def divide(x, y):
    if y != 0:
        return x / y
    return nan if x == 0 or math.isnan(x) else math.copysign(inf, x) * math.copysign(1, y)


def power(x, y):
    try:
        return math.pow(x, y)
    except OverflowError:
        return -inf if x < 0 and y % 2 == 1 else inf
    except ValueError:  # a root of a negative number, or 1 / 0
        return nan if x != 0 else math.copysign(inf, x) if y % 2 == 1 else inf


def bits(function):
    def call(x, y):
        fits = all(abs(v) < 2**63 for v in (x, y))
        return function(int(x), int(y)) if fits else nan
    return call


def logarithm(function):
    return c_rules(function, lambda x: -inf if x == 0 else nan)


def away_from_zero(x):
    return x if not math.isfinite(x) else math.copysign(math.floor(abs(x) + 0.5) if abs(x) < 2**52 else abs(x), x)


def roundp(x, digits):
    if math.isnan(x) or math.isnan(digits):
        return nan
    if not math.isfinite(x):
        return x
    digits = max(min(digits, 400.0), -400.0)
    scale = power(10.0, abs(math.trunc(digits)))
    if digits < 0:
        return away_from_zero(x / scale) * scale if math.isfinite(scale) else 0.0
    scaled = x * scale
    return away_from_zero(scaled) / scale if math.isfinite(scaled) and math.isfinite(scale) else x


def integral(function):
    return lambda x: function(x) if math.isfinite(x) else x


def nan_or(function):
    return lambda *x: nan if any(map(math.isnan, x)) else function(*x)


def great_circle(lng1, lat1, lng2, lat2):
    """By the angle between two vectors."""
    def point(lng, lat):
        lng, lat = math.radians(lng), math.radians(lat)
        return math.cos(lat) * math.cos(lng), math.cos(lat) * math.sin(lng), math.sin(lat)
    if not all(map(math.isfinite, (lng1, lat1, lng2, lat2))):
        return nan
    a, b = point(lng1, lat1), point(lng2, lat2)
    cross = math.hypot(a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
    return 6371 * math.atan2(cross, sum(x * y for x, y in zip(a, b)))


def variance(x, less=0):
    if len(x) == less or not all(map(math.isfinite, x)):
        return nan
    return statistics.variance(x) if less else statistics.pvariance(x)


def corr(a, b):
    if not all(map(math.isfinite, a + b)) or len(set(a)) == 1 or len(set(b)) == 1:
        return nan
    return statistics.correlation(a, b)


def plain_sum(x):
    total = 0.0
    for value in x:
        total += value
    return total


def sqrt_of(x):
    return math.sqrt(x) if x >= 0 else nan


NAMES = {
    "pi": pi, "e": e, "one": lambda x: [float(x)],
    "neg": each(lambda x: -x), "add": each(lambda x, y: x + y), "sub": each(lambda x, y: x - y),
    "mul": each(lambda x, y: x * y), "div": each(divide), "power": each(power),
    "choose": each(lambda c, x, y: x if c != 0 else y),
    "either": each(lambda x, y: x != 0 or y != 0), "both": each(lambda x, y: x != 0 and y != 0),
    "bit_or": each(bits(lambda x, y: x | y)), "bit_and": each(bits(lambda x, y: x & y)),
    "le": each(lambda x, y: x <= y), "ge": each(lambda x, y: x >= y), "ne": each(lambda x, y: x != y),
    "eq": each(lambda x, y: x == y), "gt": each(lambda x, y: x > y), "lt": each(lambda x, y: x < y),
    "f_isnan": each(math.isnan),
    "f_log2": each(logarithm(math.log2)), "f_log10": each(logarithm(math.log10)),
    "f_log": each(logarithm(math.log)), "f_ln": each(logarithm(math.log)),
    "f_atanh": each(c_rules(math.atanh, lambda x: math.copysign(inf, x) if abs(x) == 1 else nan)),
    "f_exp": each(c_rules(math.exp, lambda x: inf)),
    "f_sinh": each(c_rules(math.sinh, lambda x: math.copysign(inf, x))),
    "f_cosh": each(c_rules(math.cosh, lambda x: inf)),
    "f_sigmoid": each(nan_or(lambda x: 1 / (1 + math.exp(-x)) if x > -700 else 0.0)),
    "f_sign": each(nan_or(lambda x: (x > 0) - (x < 0))), "f_abs": each(abs),
    "f_floor": each(integral(math.floor)), "f_ceil": each(integral(math.ceil)), "f_trunc": each(integral(math.trunc)),
    "f_rint": each(integral(lambda x: math.floor(x + 0.5))), "f_round": each(away_from_zero),
    "f_roundp": each(roundp), "f_mod": each(c_rules(math.fmod, lambda x, y: nan)),
    "f_min": each(nan_or(min)), "f_max": each(nan_or(max)),
    "f_sum": each(lambda *x: plain_sum(x)), "f_avg": each(lambda *x: plain_sum(x) / len(x)),
    "f_haversine": each(great_circle), "f_sphere_dist": each(great_circle),
    "f_len": whole(len), "f_squared_norm": whole(lambda x: plain_sum(v * v for v in x)),
    "f_l2_norm": whole(lambda x: nan if any(map(math.isnan, x)) else math.hypot(*x)),
    "f_dot": whole(lambda a, b: plain_sum(x * y for x, y in zip(a, b)), 2),
    "f_euclid_dist": whole(lambda a, b: sqrt_of(plain_sum((x - y) * (x - y) for x, y in zip(a, b))), 2),
    "f_corr": whole(corr, 2), "f_variance": whole(variance), "f_pop_variance": whole(lambda x: variance(x, 1)),
    "f_std_dev": whole(lambda x: sqrt_of(variance(x))), "f_pop_std_dev": whole(lambda x: sqrt_of(variance(x, 1))),
    "f_reduce_min": whole(lambda x: nan_or(min)(*x, inf)), "f_reduce_max": whole(lambda x: nan_or(max)(*x, -inf)),
    "f_reduce_sum": whole(plain_sum), "f_reduce_mean": whole(lambda x: plain_sum(x) / len(x)),
    "f_reduce_prod": whole(math.prod),
}
for name in ("sin", "cos", "tan", "asin", "acos", "atan", "tanh", "asinh", "acosh", "sqrt"):
    NAMES["f_" + name] = each(c_rules(getattr(math, name), lambda x: nan))


def close(x, y):
    if math.isnan(x) or math.isnan(y):
        return math.isnan(x) and math.isnan(y)
    return x == y or math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-9)


cases = json.loads(open(sys.argv[1]).read())
used, largest, special = set(), 0.0, 0
for case in cases:
    variables = {name: [float(x) for x in case[name]] for name in "abc"}
    expected = eval(case["calls"], NAMES, variables)
    got = [float(x) for x in case["result"]]
    assert len(got) == len(expected), (case, expected)
    assert all(close(x, y) for x, y in zip(got, expected)), (case, expected)
    used |= {name for name in NAMES if name + "(" in case["calls"]}
    special += sum(not math.isfinite(x) for x in got)
    largest = max([largest] + [abs(x - y) / max(abs(y), 1) for x, y in zip(got, expected) if math.isfinite(y)])
unused = {name for name, what in NAMES.items() if callable(what)} - used
assert not unused, unused
assert len(cases) > 1000
print(f"{len(cases)} expressions, {special} values not finite, largest difference {largest:.1e} of the value")
