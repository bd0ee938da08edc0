"""torchmetrics on the rows of metric_test.cpp. Usage: metrics.py METRICS_FILE"""
import json
import pathlib
import sys

import numpy
import torch
import torchmetrics
from torchmetrics import classification, regression, retrieval


def by_group(rows, value):
    """(value, rows) of every group"""
    for group in sorted(set(rows["groups"])):
        chosen = [i for i, g in enumerate(rows["groups"]) if g == group]
        yield value([rows["predictions"][i] for i in chosen], [rows["labels"][i] for i in chosen]), len(chosen)


def exact_auc(predictions, labels):
    if len(set(labels)) < 2:
        return None
    return classification.BinaryAUROC(thresholds=None)(torch.tensor(predictions), torch.tensor(labels).long()).item()


def concordant(predictions, labels):
    """The share of all pairs that TorchEasyRec's XAUC estimates."""
    p, y = numpy.array(predictions), numpy.array(labels)
    i, j = numpy.triu_indices(len(p), 1)
    return float(((y[i] - y[j]) * (p[i] - p[j]) > 0).mean()) if len(p) > 1 else None


def mean(pairs, weighted):
    pairs = [(value, rows if weighted else 1) for value, rows in pairs if value is not None]
    return sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)


def normalized_entropy(p, y):
    rate = torch.full_like(p, y.mean().item())
    cross_entropy = torch.nn.functional.binary_cross_entropy
    return cross_entropy(p, y, reduction="sum") / cross_entropy(rate, y, reduction="sum")


def recall(p, k):
    rows, columns = p.shape
    target = torch.zeros_like(p)
    target[:, 0] = 1
    index = torch.arange(rows).repeat_interleave(columns)
    return retrieval.RetrievalRecall(top_k=k)(p.flatten(), target.flatten().long(), indexes=index)


EXPECTED = {
    "auc": lambda r, p, y: classification.BinaryAUROC(thresholds=200)(p, y.long()),
    "auc_1000": lambda r, p, y: classification.BinaryAUROC(thresholds=1000)(p, y.long()),
    "accuracy": lambda r, p, y: classification.BinaryAccuracy(threshold=0.4)(p, y.long()),
    "grouped_auc": lambda r, p, y: mean(by_group(r, exact_auc), weighted=False),
    "normalized_entropy": lambda r, p, y: normalized_entropy(p.double(), y.double()),
    "multiclass_auc_macro": lambda r, p, y: classification.MulticlassAUROC(5, average="macro", thresholds=200)(p, y.long()),
    "multiclass_auc_weighted":
        lambda r, p, y: classification.MulticlassAUROC(5, average="weighted", thresholds=50)(p, y.long()),
    "multiclass_auc_absent": lambda r, p, y: classification.MulticlassAUROC(5, average="macro", thresholds=200)(p, y.long()),
    "accuracy_top1": lambda r, p, y: classification.MulticlassAccuracy(5, top_k=1, average="micro")(p, y.long()),
    "accuracy_top3": lambda r, p, y: classification.MulticlassAccuracy(5, top_k=3, average="micro")(p, y.long()),
    "recall_at_k": lambda r, p, y: recall(p, 2),
    "mean_absolute_error": lambda r, p, y: regression.MeanAbsoluteError()(p, y),
    "mean_squared_error": lambda r, p, y: regression.MeanSquaredError()(p, y),
    "xauc": lambda r, p, y: concordant(r["predictions"], r["labels"]),
    "grouped_xauc": lambda r, p, y: mean(by_group(r, concordant), weighted=True),
}


def main(path):
    cases = json.loads(path.read_text())
    assert {case["name"] for case in cases} == set(EXPECTED), "the two lists of cases differ"
    worst = 0.0
    for case in cases:
        p = torch.tensor(case["predictions"])
        if case["columns"] > 1:
            p = p.reshape(-1, case["columns"])
        want = float(EXPECTED[case["name"]](case, p, torch.tensor(case["labels"])))
        for ranks in ("one_rank", "two_ranks"):
            difference = abs(case[ranks] - want)
            assert difference <= 1e-6, (case["name"], ranks, case[ranks], want)
            worst = max(worst, difference)
    print(f"ok: torchmetrics {torchmetrics.__version__}: {len(cases)} metrics; largest difference {worst:.1e}")


main(pathlib.Path(sys.argv[1]))
