"""Five functions with mixed and conditional spaces; each returns a loss to be made small.

A space is a table of distributions as an experiment file has them, without dots in the names:
{"x": {"uniform": [0, 1]}, "y": {"int": [1, 8], "when": {"x": ..}}}.
"""

import math


def mixed_branin(p):
    """Branin's function with a whole second coordinate, shifted by a choice."""
    x, y = p["x"] + {"none": 0.0, "left": 1.5, "right": -3.0}[p["shift"]], float(p["y"])
    a, b, c, r, s, t = 1.0, 5.1 / (4 * math.pi**2), 5 / math.pi, 6.0, 10.0, 1 / (8 * math.pi)
    return a * (y - b * x * x + c * x - r) ** 2 + s * (1 - t) * math.cos(x) + s


def optimizer(p):
    """A learning rate, and what goes with each of three optimizers."""
    off = lambda value, best: math.log10(value / best) ** 2
    loss = 0.1 + 0.03 * off(p["decay"], 1e-4)
    if p["optimizer"] == "sgd":
        return loss + 0.08 * off(p["sgd_lr"], 0.1) + 0.5 * (p["momentum"] - 0.9) ** 2
    if p["optimizer"] == "adam":
        return loss + 0.02 + 0.06 * off(p["adam_lr"], 1e-3) + 0.2 * (p["beta"] - 0.95) ** 2
    return loss + 0.05 + 0.05 * off(p["rms_lr"], 3e-4)


def network(p):
    """Widths of up to three layers, of which only those that there are exist."""
    best = {1: [200], 2: [120, 60], 3: [90, 60, 30]}[p["layers"]]
    loss = {1: 0.25, 2: 0.1, 3: 0.12}[p["layers"]]
    for index, width in enumerate(best):
        loss += 0.05 * math.log2(p[f"width{index + 1}"] / width) ** 2
    return loss + {"relu": 0.0, "tanh": 0.08, "gelu": 0.02}[p["activation"]] + (p["dropout"] - 0.2) ** 2


def hartmann(p):
    """Hartmann's function of six variables, two of which are whole numbers."""
    x = [p["a"], p["b"], p["c"], p["d"], p["e"] / 20, p["f"] / 20]
    alpha = [1.0, 1.2, 3.0, 3.2]
    a = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
    q = [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
         [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]]
    inner = lambda i: sum(a[i][j] * (x[j] - 1e-4 * q[i][j]) ** 2 for j in range(6))
    return -sum(alpha[i] * math.exp(-inner(i)) for i in range(4))


def schedule(p):
    """A rate and a batch size that depend on each other, and a schedule with parameters of its own."""
    coupled = math.log2(p["batch"] / 64) - 2 * math.log10(p["lr"] / 0.01)
    loss = 0.2 + 0.02 * coupled**2 + 0.03 * math.log2(p["batch"] / 128) ** 2
    if p["schedule"] == "cosine":
        return loss + 0.3 * (p["warmup"] / 10 - 0.3) ** 2
    if p["schedule"] == "step":
        return loss + 0.05 + 0.1 * (p["gamma"] - 0.5) ** 2 + 0.01 * abs(p["every"] - 4)
    return loss + 0.15


FUNCTIONS = {
    "mixed_branin": (mixed_branin, {
        "x": {"uniform": [-5.0, 10.0]},
        "y": {"int": [0, 15]},
        "shift": {"choice": ["none", "left", "right"]},
    }),
    "optimizer": (optimizer, {
        "optimizer": {"choice": ["sgd", "adam", "rmsprop"]},
        "decay": {"log_uniform": [1e-6, 1e-1]},
        "sgd_lr": {"log_uniform": [1e-4, 1e1], "when": {"optimizer": "sgd"}},
        "momentum": {"uniform": [0.0, 0.99], "when": {"optimizer": "sgd"}},
        "adam_lr": {"log_uniform": [1e-6, 1e0], "when": {"optimizer": "adam"}},
        "beta": {"uniform": [0.5, 0.999], "when": {"optimizer": "adam"}},
        "rms_lr": {"log_uniform": [1e-6, 1e0], "when": {"optimizer": "rmsprop"}},
    }),
    "network": (network, {
        "layers": {"choice": [1, 2, 3]},
        "activation": {"choice": ["relu", "tanh", "gelu"]},
        "dropout": {"uniform": [0.0, 0.9]},
        "width1": {"int": [4, 1024], "log": True},
        "width2": {"int": [4, 1024], "log": True, "when": {"layers": [2, 3]}},
        "width3": {"int": [4, 1024], "log": True, "when": {"layers": 3}},
    }),
    "hartmann": (hartmann, {
        **{name: {"uniform": [0.0, 1.0]} for name in "abcd"},
        **{name: {"int": [0, 20]} for name in "ef"},
    }),
    "schedule": (schedule, {
        "lr": {"log_uniform": [1e-5, 1e0]},
        "batch": {"int": [8, 512], "log": True},
        "schedule": {"choice": ["constant", "cosine", "step"]},
        "warmup": {"uniform": [0.0, 10.0], "when": {"schedule": "cosine"}},
        "gamma": {"uniform": [0.05, 0.95], "when": {"schedule": "step"}},
        "every": {"int": [1, 10], "when": {"schedule": "step"}},
    }),
}
