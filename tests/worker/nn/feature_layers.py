"""torch on the rows of feature_layers_test.cpp, each layer written down once more.
Usage: feature_layers.py FILE"""
import json
import pathlib
import sys

import torch


def tensor(entry, key="values"):
    return torch.tensor(entry[key], dtype=torch.float64).reshape(entry["shape"])


def autodis(x, w, case):
    columns = []
    for n in range(x.shape[1]):
        h = torch.nn.functional.leaky_relu(x[:, n:n + 1] * w["proj_w"][n])
        share = torch.softmax((h @ w["proj_m"][n].T + 0.7 * h) / 0.2, 1)
        columns.append(share @ w["meta_emb"][n])
    return torch.cat(columns, 1)


def number(x, w, case):
    return torch.cat([x[:, n:n + 1] * w["proj_w"][n] for n in range(x.shape[1])], 1)


def columns(per_feature):
    return torch.cat([per_feature[..., f:f + 1].expand(*per_feature.shape[:-1], width) for f, width in enumerate((4, 1, 7))], -1)


def logit(p):
    epsilon = torch.finfo(torch.float32).eps
    return (p + epsilon).log() - (1 - p + epsilon).log()


def drop(x, w, case):
    z = torch.sigmoid((logit(torch.sigmoid(w["feature_p"])) + logit(tensor(case["noise"]))) / 0.1)
    return x * (1 - columns(z))


LAYERS = {
    "autodis": autodis, "number": number, "numbers": lambda x, w, case: x @ w["proj_w"], "drop": drop,
    "penalty": lambda x, w, case: 0.03 / 37 * (1 - torch.sigmoid(w["feature_p"])).sum() + 0 * x.sum(),
    "keep": lambda x, w, case: x * (1 - columns(torch.sigmoid(w["feature_p"]))),
}


def main(path):
    cases = json.loads(path.read_text())
    assert {case["name"] for case in cases} == set(LAYERS)
    worst = 0.0
    for case in cases:
        x = tensor(case["x"]).requires_grad_()
        parameters = {name: tensor(entry).requires_grad_() for name, entry in case["parameters"].items()}
        output = LAYERS[case["name"]](x, parameters, case)
        (output * tensor(case["seed"])).sum().backward()
        compared = [("output", output, tensor(case["output"])), ("x", x.grad, tensor(case["x"], "gradient"))]
        compared += [(name, entry.grad, tensor(case["parameters"][name], "gradient")) for name, entry in parameters.items()]
        for what, want, got in compared:
            apart = ((want - got).abs().max() / want.abs().max().clamp(min=1.0)).item()
            assert apart <= 1e-5, (case["name"], what, apart)
            worst = max(worst, apart)
    print(f"ok: torch {torch.__version__}: {len(cases)} layers and gradients; largest difference {worst:.1e}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
