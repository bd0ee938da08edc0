"""Made-up rows with the statistics that matter for speed: long-tailed ids (bounded zipf 1.1, hot rows scattered over the
table), heavy-tailed counts as log1p, labels that can be learnt. The same seed gives the same files."""
import pathlib

import numpy
import pyarrow
import pyarrow.parquet

SEED = 20260801
ROW_GROUP = 65536


def long_tailed_ids(random, count, rows, exponent=1.1):
    """Ids in [0, rows): the inverse of the continuous law, then an odd multiplier, so that hot ids are not neighbours."""
    last = (rows + 1.0) ** (1 - exponent)
    rank = (1 - random.random(count) * (1 - last)) ** (1 / (1 - exponent))
    rank = numpy.clip(rank.astype(numpy.int64) - 1, 0, rows - 1)
    multiplier = 2654435761
    while numpy.gcd(multiplier, rows) != 1:
        multiplier += 2
    return rank * multiplier % rows


def _table(workload, random, weights, count):
    columns, scores = {}, [numpy.full(count, -1.6), numpy.full(count, -1.0)]
    for i in range(workload.floats):
        value = numpy.log1p(numpy.floor(random.pareto(1.2 + 0.1 * i, count) * 3)).astype(numpy.float32)
        scores[0] += 0.15 * weights[i] * (value - 1.0)
        columns[f"int_{i}"] = value
    for i, (name, rows) in enumerate(workload.ids.items()):
        ids = long_tailed_ids(random, count, rows)
        spread = (ids * 0x9E3779B1 + i * 7919) % 1000003 / 1000003.0 - 0.5
        for t, score in enumerate(scores):
            score += weights[(13 + i + 5 * t) % len(weights)] * spread
        columns[name] = ids
    labels = {}
    happened = numpy.ones(count, bool)
    for name, score in zip(workload.labels, scores):  # a purchase needs a click
        happened = happened & (random.random(count) < 1 / (1 + numpy.exp(-score)))
        labels[name] = happened.astype(numpy.int64)
    return pyarrow.table({**labels, **columns})


def make(folder, workload, train_rows, eval_rows):
    """Writes <folder>/<workload's key>/{train,eval}-<n>.parquet unless they are there; returns the two globs."""
    target = pathlib.Path(folder) / f"{workload.data_key}-{train_rows}-{eval_rows}"
    weights = numpy.random.default_rng(SEED).normal(0, 1, 64)
    parts = [("train", train_rows, 4), ("eval", eval_rows, 2)]
    if not (target / "done").exists():
        target.mkdir(parents=True, exist_ok=True)
        for split, (name, rows, files) in enumerate(parts):
            for part in range(files):
                random = numpy.random.default_rng([SEED, split, part])
                pyarrow.parquet.write_table(_table(workload, random, weights, rows // files), target / f"{name}-{part}.parquet",
                                            row_group_size=ROW_GROUP, compression="snappy")
        (target / "done").touch()
    return str(target / "train-*.parquet"), str(target / "eval-*.parquet")
