"""torch on the rows of loss_test.cpp. Usage: losses.py LOSSES_FILE"""
import json
import pathlib
import sys

import torch
from torch.nn import functional


def focal(logits, y, gamma, alpha):
    p = torch.sigmoid(logits).detach()
    weight = alpha * y * (1 - p) ** gamma + (1 - alpha) * (1 - y) * p ** gamma
    return functional.binary_cross_entropy_with_logits(logits, y, reduction="none") * weight


def jrc(logits, y, sessions, alpha):
    """By definition, with the mask of all pairs of rows."""
    rows = torch.arange(len(y))
    ranking = torch.zeros(len(y))
    for column, label in ((1, 1), (0, 0)):
        mine = y == label
        masked = (sessions[:, None] != sessions[None, :]) | (mine[None, :] & (rows[:, None] != rows[None, :]))
        scores = logits[:, column][None, :].expand(len(y), -1).masked_fill(masked, -1e9)
        ranking = ranking + torch.where(mine, functional.cross_entropy(scores, rows, reduction="none"), 0.0)
    return alpha * functional.cross_entropy(logits, y.long(), reduction="none") + (1 - alpha) * ranking


ROW_LOSSES = {
    "bce": lambda x, y, s: functional.binary_cross_entropy_with_logits(x, y, reduction="none"),
    "bce_smoothed": lambda x, y, s: functional.binary_cross_entropy_with_logits(x, y * 0.9 + 0.05, reduction="none"),
    "focal": lambda x, y, s: focal(x, y, 2.0, 0.5),
    "focal_weighted": lambda x, y, s: focal(x, y, 1.5, 0.8),
    "softmax": lambda x, y, s: functional.cross_entropy(x, y.long(), reduction="none"),
    "softmax_smoothed": lambda x, y, s: functional.cross_entropy(x, y.long(), reduction="none", label_smoothing=0.2),
    "l2": lambda x, y, s: functional.mse_loss(x, y, reduction="none"),
    "l2_weighted": lambda x, y, s: functional.mse_loss(x, y, reduction="none"),
    "jrc": lambda x, y, s: jrc(x, y, s, 0.3),
    "jrc_weighted": lambda x, y, s: jrc(x, y, s, 0.5),
}


def main(path):
    cases = json.loads(path.read_text())
    assert {case["name"] for case in cases} == set(ROW_LOSSES), "the two lists of cases differ"
    worst = 0.0
    for case in cases:
        shape = (-1, case["columns"]) if case["columns"] > 1 else (-1,)
        x = torch.tensor(case["output"], dtype=torch.float64).reshape(shape).requires_grad_()
        rows = ROW_LOSSES[case["name"]](x, torch.tensor(case["label"], dtype=torch.float64), torch.tensor(case["sessions"]))
        if case["weights"]:
            rows = rows * torch.tensor(case["weights"])
        loss = rows.mean()
        loss.backward()
        difference = abs(loss.item() - case["loss"]) / max(1.0, abs(loss.item()))
        apart = (x.grad.flatten() - torch.tensor(case["gradient"], dtype=torch.float64)).abs().max().item()
        assert max(difference, apart) <= 1e-6, (case["name"], case["loss"], loss.item(), apart)
        worst = max(worst, difference, apart)
    print(f"ok: torch {torch.__version__}: {len(cases)} losses and gradients; largest difference {worst:.1e}")


main(pathlib.Path(sys.argv[1]))
