"""torch.optim on the gradients of dense_optimizers_test.cpp. Usage: dense_optimizers.py STEPS_FILE"""
import math
import pathlib
import sys

import torch

CASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.1, weight_decay=0.01),
    "sgd_nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.02),
    "sgd_fused": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.02, fused=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05, initial_accumulator_value=0.1, weight_decay=0.01),
    "adagrad_fused": lambda p: torch.optim.Adagrad(p, lr=0.05, initial_accumulator_value=0.1, weight_decay=0.01, fused=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.99), weight_decay=0.02),
    "adam_amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True, eps=1e-6),
    "adam_fused": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.02, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "adamw_fused": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.5, rho=0.9, eps=1e-5, weight_decay=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.95, weight_decay=0.01),
}


def gradient(step, i):
    g = math.sin(1.7 * step + 0.9 * i) * (0.01 if i % 3 == 0 else 1.0)
    return 0.0 if i == 5 and step % 2 == 1 else g


def main(path):
    seen = {}
    for line in path.read_text().splitlines():
        name, step, *values = line.split()
        seen[name, int(step)] = torch.tensor([float(v) for v in values])
    assert {name for name, _ in seen} == set(CASES), "the two lists of cases differ"
    worst, equal = 0.0, 0
    for name, make in CASES.items():
        parameter = torch.nn.Parameter(torch.tensor([math.sin(i + 1.0) for i in range(12)]))
        optimizer = make([parameter])
        base = optimizer.param_groups[0]["lr"]
        for step in range(10):
            optimizer.param_groups[0]["lr"] = base * (1.0 if step < 5 else 0.5)
            parameter.grad = torch.tensor([gradient(step, i) for i in range(12)])
            optimizer.step()
            difference = (parameter.detach() - seen[name, step]).abs().max().item()
            assert difference <= 1e-6, (name, step, difference)
            worst = max(worst, difference)
            equal += torch.equal(parameter.detach(), seen[name, step])
    print(f"ok: torch {torch.__version__}: {len(CASES)} optimizers, 10 steps; largest difference {worst:.1e}, "
          f"{equal} of {10 * len(CASES)} steps equal to the last bit")


main(pathlib.Path(sys.argv[1]))
