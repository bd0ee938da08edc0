"""torch on the rows of match_models_test.cpp: each row for itself, no masks. Usage: match_models.py MODELS_FILE"""
import json
import math
import pathlib
import sys

import torch
from torch.nn import functional

from rank_models import Weights, judged, linear, mlp, tensor


def vectors(w, x, config):
    x = mlp(w / "mlp", x)
    if config["output_dim"] > 0:
        x = linear(w / "output", x)
    return functional.normalize(x, dim=-1) if config["similarity"] == "COSINE" else x


def squash(capsule, power):
    square = capsule.square().sum(-1, keepdim=True)
    return (square / (1 + square)) ** power * capsule / square.sqrt().clamp(min=1e-7)


def routed(positions, first, capsules):
    """positions [L, high], first logits [K, L] -> [K, high]"""
    logits = first
    directions = functional.normalize(positions.detach(), dim=-1)
    for i in range(capsules["num_iters"] - 1):
        weights = torch.softmax(logits * capsules["routing_logits_scale"], 0)
        logits = logits + (weights @ positions.detach()) @ directions.T
    return squash(torch.softmax(logits * capsules["routing_logits_scale"], 0) @ positions, capsules["squash_pow"])


def interests(w, user, history, config):
    """One row: user [D], history [L, D] -> the interests that it has [K, D]."""
    tower = config["user_tower"]
    capsules, length = tower["capsule_config"], len(history)
    user = linear(w / "user_mlp_out", mlp(w / "user_mlp", user[None]))[0]
    if "hist_seq_mlp" in tower:
        history = linear(w / "_hist_seq_mlp_out", mlp(w / "_hist_seq_mlp", history))
    wanted = min(max(math.log2(length), 1.0) if length else 1.0, capsules["max_k"])
    count = capsules["max_k"] if capsules["const_caps_num"] else math.ceil(wanted)
    first = torch.zeros(count, length, dtype=torch.float64)
    if capsules["routing_init_method"] == "normal":
        drawn = torch.randn(capsules["max_seq_len"], capsules["max_k"], generator=torch.Generator()).double()
        first = drawn[:length, :count].T * capsules["routing_logits_stddev"]
    capsule = routed(history @ w["_capsule_layer.bilinear_matrix"], first, capsules)
    x = mlp(w / "_concat_mlp", torch.cat([user.expand(count, -1), capsule], 1))
    if config["output_dim"] > 0:
        x = x @ w["output.weight"].T
    return functional.normalize(x, dim=-1) if config["similarity"] == "COSINE" else x


def similarities(case, users, items, config):
    rows, shared = len(users), case["shared"]
    result = torch.zeros(case["output"]["shape"], dtype=torch.float64)
    most = max((number for _, number in case["hard"]), default=-1) + 1
    for row, user in enumerate(users):
        if config["in_batch_negative"]:
            values = [user @ item for item in items]
        else:
            values = [user @ items[row], *(user @ item for item in items[rows:rows + shared])]
            own = {number: rows + shared + i for i, (of, number) in enumerate(case["hard"]) if of == row}
            values += [user @ items[own[number]] if number in own else torch.zeros(()) for number in range(most)]
            missing = [0.0] * (1 + shared) + [0.0 if number in own else 1.0 for number in range(most)]
            assert missing == tensor(case["missing"])[row].tolist()
        assert len(values) == result.shape[1], (len(values), result.shape)
        result = result.index_put((torch.tensor([row]),), torch.stack(values)[None] / config["temperature"])
    return result


def augmented(case, inputs, w, config):
    """Vectors of both towers over their two groups, and the losses that their augmented groups learn by."""
    rows, vector, losses = len(case["lengths"]), {}, []
    for side in ("user", "item"):
        vector[side] = vectors(w / f"{side}_tower", torch.cat([inputs[side], inputs[f"{side}_more"]], 1), config)
    for side, other, factor in (("user", "item", "amm_u_weight"), ("item", "user", "amm_i_weight")):
        apart = [(x / x.norm() - y.detach()).square().sum() for x, y in zip(inputs[f"{side}_more"][:rows], vector[other][:rows])]
        if case["weights"]:
            weights = tensor(case["weights"])
            losses.append(config[factor] * sum(a * v for a, v in zip(apart, weights)) / weights.sum())
        else:
            losses.append(config[factor] * sum(apart))
    assert len(losses) == len(case["own_losses"])
    for want, got in zip(losses, case["own_losses"]):
        assert abs(want.item() - got) <= 1e-5 * abs(got), (case["name"], want, got)
    return similarities(case, vector["user"], vector["item"], config), sum(losses)


def computed(case, inputs, w):
    """Similarities, and the sum of the model's own losses."""
    model = case["name"].split("_")[0]
    config = next(value for name, value in case["config"].items() if name.startswith(model))
    if model == "dat":
        return augmented(case, inputs, w, config)
    items = vectors(w / "item_tower", inputs["item"], config)
    if model == "dssm":
        return similarities(case, vectors(w / "user_tower", inputs["user"], config), items, config), 0
    users = []
    for row, length in enumerate(case["lengths"]):
        found = interests(w / "user_tower", inputs["user"][row], inputs["history"][row, :length], config)
        users.append(torch.softmax(config["simi_pow"] * (found @ items[row]), 0) @ found)
    return similarities(case, users, items, config), 0


def main(path):
    cases = json.loads(path.read_text())
    assert len(cases) >= 11
    worst = 0.0
    for case in cases:
        inputs, parameters = ({name: tensor(entry).requires_grad_() for name, entry in case[kind].items()} for kind in ("inputs", "parameters"))
        output, own = computed(case, inputs, Weights(parameters))
        ((output * tensor(case["seed"])).sum() + own).backward()
        compared = [("output", output, tensor(case["output"]))]
        worst = max(worst, judged(case, {"inputs": inputs, "parameters": parameters}, compared, 2e-5))
    print(f"ok: torch {torch.__version__}: {len(cases)} models and gradients; largest difference {worst:.1e}")


main(pathlib.Path(sys.argv[1]))
