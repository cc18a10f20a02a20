"""Trajectories of torch's optimizers on a small ill-conditioned least-squares problem: tests/golden/optim.json.

Loss: 0.5 * sum_i c_i (x_i - t_i)^2, minimized from x = 0; its gradient c (x - t) is exact in both worlds.
Run: python tests/golden/optim.py
"""
import json, pathlib
import torch

torch.set_num_threads(1)
STEPS, N = 50, 6
C = torch.tensor([0.01, 0.1, 0.5, 1.0, 2.0, 5.0])
T = torch.tensor([1.0, -2.0, 0.5, -0.25, 3.0, -1.5])

CASES = [
    # our name and parameters, torch's class and parameters, cycled momentum?
    ("adam", {"lr": 0.05}, False),
    ("adam", {"lr": 0.05, "weight_decay": 0.1}, False),
    ("adam", {"lr": 0.02, "betas": [0.8, 0.95], "eps": 1e-3}, False),
    ("adam", {"lr": 0.05}, True),
    ("adamw", {"lr": 0.05}, False),
    ("adamw", {"lr": 0.05, "weight_decay": 0.5}, False),
    ("adamw", {"lr": 0.02, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.0}, False),
    ("adamw", {"lr": 0.05, "weight_decay": 0.2}, True),
    ("sgd", {"lr": 0.1}, False),
    ("sgd", {"lr": 0.1, "weight_decay": 0.1}, False),
    ("sgd", {"lr": 0.05, "momentum": 0.9}, False),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01}, False),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, False),
    ("sgd", {"lr": 0.05, "momentum": 0.9}, True),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "nesterov": True}, True),
    ("sgd", {"lr": 0.05}, True),
]
TORCH = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def cycled(step):
    """The momentum that a schedule prescribes for a step, counted from 1."""
    return 0.95 - 0.1 * step / STEPS


def trajectory(name, parameters, cycles):
    x = torch.zeros(N, requires_grad=True)
    optimizer = TORCH[name]([x], **parameters)
    rows = []
    for step in range(1, STEPS + 1):
        if cycles:  # as OneCycleLR does it
            group = optimizer.param_groups[0]
            if "betas" in group:
                group["betas"] = (cycled(step), *group["betas"][1:])
            else:
                group["momentum"] = cycled(step)
        optimizer.zero_grad()
        (0.5 * (C * (x - T) ** 2).sum()).backward()
        optimizer.step()
        rows.append([float(value) for value in x.detach()])
    return rows


cases = []
for name, parameters, cycles in CASES:
    rows = trajectory(name, parameters, cycles)
    kept = {str(step): rows[step - 1] for step in (1, 2, 3, 5, 10, 20, 35, 50)}
    cases.append({"optimizer": {name: parameters}, "cycled": cycles, "x": kept})
out = pathlib.Path(__file__).with_suffix(".json")
out.write_text(json.dumps({"torch": torch.__version__, "curvature": C.tolist(), "target": T.tolist(), "steps": STEPS, "cases": cases}, indent=1))
