"""The weights of pareto_test.cpp's cases, found by trying every set of losses, and held against points of a grid.
Usage: pareto.py FILE"""
import itertools
import json
import pathlib
import sys

import numpy


def on_plane(gram, least):
    """parity/models.md 7.6, by normal equations; those of least norm where they have several solutions."""
    n = len(least)
    matrix = numpy.ones((n + 1, n + 1))
    matrix[:n, :n], matrix[n, n] = gram, 0
    wanted = numpy.append(-gram @ least, 1 - least.sum())
    return numpy.linalg.lstsq(matrix, wanted, rcond=1e-12)[0][:n]


def closest(point, total):
    """Of {x >= 0, sum x = total}: for every set of losses that may be above 0 the closest one, and the best of these."""
    best = None
    for count in range(1, len(point) + 1):
        for chosen in map(list, itertools.combinations(range(len(point)), count)):
            x = numpy.zeros(len(point))
            x[chosen] = point[chosen] - (point[chosen].sum() - total) / count
            if x.min() >= 0 and (best is None or ((x - point) ** 2).sum() < ((best - point) ** 2).sum()):
                best = x
    return best


def main(path):
    cases = json.loads(path.read_text())
    worst, bounded = 0.0, 0
    for case in cases:
        least, weights = numpy.array(case["least"]), numpy.array(case["weights"])
        n = len(least)
        gram = numpy.array(case["gram"]).reshape(n, n)
        point, total = on_plane(gram, least), 1 - least.sum()
        want = least + closest(point, total)
        worst = max(worst, abs(weights - want).max())
        bounded += (want <= least).any()
        distance = ((weights - least - point) ** 2).sum()
        if n <= 3:
            steps = numpy.linspace(0, total, 31)
            for x in itertools.product(steps, repeat=n - 1):
                if sum(x) <= total:
                    assert ((numpy.array([*x, total - sum(x)]) - point) ** 2).sum() >= distance - 1e-9
    assert worst <= 1e-6, worst
    assert 10 < bounded < len(cases) - 10, bounded
    print(f"ok: {len(cases)} cases, {bounded} at a bound; largest difference {worst:.1e}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
