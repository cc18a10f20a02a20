"""Trajectories of torch's and timm's optimizers on a small ill-conditioned least-squares problem: tests/golden/optim.json.

Loss: 0.5 * sum_i c_i (x_i - t_i)^2, minimized from x = 0 (0.1 for Lamb and Muon); its gradient c (x - t) is exact in both
worlds. Muon's Newton-Schulz iteration runs in f32 here, in bf16 as timm ships it.
Run: python tests/golden/optim.py
"""
import json, math, pathlib
import torch
import timm.optim, timm.optim.muon

torch.set_num_threads(1)
defaults = list(timm.optim.muon.zeropower_via_newtonschulz.__defaults__)
timm.optim.muon.zeropower_via_newtonschulz.__defaults__ = tuple(torch.float32 if d is torch.bfloat16 else d for d in defaults)
STEPS, N = 50, 6
C = torch.tensor([0.01, 0.1, 0.5, 1.0, 2.0, 5.0])
T = torch.tensor([1.0, -2.0, 0.5, -0.25, 3.0, -1.5])
# A matrix for Muon: other curvatures and targets, drawn once.
GENERATOR = torch.Generator().manual_seed(1)
CM = torch.rand(24, generator=GENERATOR) + 0.5
TM = torch.randn(24, generator=GENERATOR)

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
    ("rmsprop", {"lr": 0.02}, False),
    ("rmsprop", {"lr": 0.02, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.8}, False),
    ("rmsprop", {"lr": 0.01, "centered": True, "weight_decay": 0.01, "eps": 1e-2}, False),
    ("rmsprop", {"lr": 0.01, "centered": True, "momentum": 0.5, "eps": 1e-2}, False),
    ("rmsprop", {"lr": 0.01, "momentum": 0.9}, True),
    ("nadam", {"lr": 0.05}, False),
    ("nadam", {"lr": 0.05, "weight_decay": 0.1, "momentum_decay": 0.02}, False),
    ("nadam", {"lr": 0.05, "weight_decay": 0.3, "decoupled_weight_decay": True}, False),
    ("nadam", {"lr": 0.05, "betas": [0.8, 0.95]}, True),
    ("radam", {"lr": 0.05}, False),
    ("radam", {"lr": 0.05, "weight_decay": 0.1, "betas": [0.9, 0.9]}, False),
    ("radam", {"lr": 0.05, "weight_decay": 0.3, "decoupled_weight_decay": True}, True),
    ("adagrad", {"lr": 0.3}, False),
    ("adagrad", {"lr": 0.3, "lr_decay": 0.02, "weight_decay": 0.1, "initial_accumulator_value": 0.5}, False),
    ("adan", {"lr": 0.05}, False),
    ("adan", {"lr": 0.05, "weight_decay": 0.3, "betas": [0.9, 0.8, 0.95], "eps": 1e-4}, False),
    ("adan", {"lr": 0.05, "weight_decay": 0.3, "no_prox": True}, True),
    ("lion", {"lr": 0.02}, False),
    ("lion", {"lr": 0.02, "weight_decay": 0.3, "betas": [0.8, 0.95]}, False),
    ("lamb", {"lr": 0.05}, False),
    ("lamb", {"lr": 0.05, "weight_decay": 0.2, "max_grad_norm": 0.0, "grad_averaging": False}, False),
    ("lamb", {"lr": 0.05, "weight_decay": 0.0, "bias_correction": False}, False),
    ("lamb", {"lr": 0.05, "weight_decay": 0.0, "always_adapt": True, "trust_clip": True, "max_grad_norm": 0.5}, False),
    ("lamb", {"lr": 0.02, "weight_decay": 0.3, "decoupled_decay": True, "betas": [0.8, 0.95]}, True),
    ("muon", {"lr": 0.02}, False),
    ("muon", {"lr": 0.02, "weight_decay": 0.3, "fallback_lr_scale": 0.5, "betas": [0.8, 0.9]}, False),
    ("muon", {"lr": 0.02, "shape": [4, 6]}, False),
    ("muon", {"lr": 0.05, "weight_decay": 0.5, "momentum": 0.8, "ns_steps": 7, "shape": [6, 4]}, False),
    ("muon", {"lr": 0.02, "weight_decay": 0.1, "shape": [4, 3, 2, 1]}, False),
    ("lookahead", {"base": {"adamw": {"lr": 0.05, "weight_decay": 0.2}}}, False),
    ("lookahead", {"k": 5, "alpha": 0.8, "base": {"sgd": {"lr": 0.05, "momentum": 0.9}}}, False),
    ("sam", {"base": {"sgd": {"lr": 0.05, "momentum": 0.9}}}, False),
    ("sam", {"rho": 0.5, "adaptive": True, "base": {"adam": {"lr": 0.05, "weight_decay": 0.1}}}, False),
    ("lookahead", {"k": 4, "base": {"sam": {"rho": 0.2, "base": {"sgd": {"lr": 0.05}}}}}, False),
]
NAMES = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop,
         "nadam": torch.optim.NAdam, "radam": torch.optim.RAdam, "adagrad": torch.optim.Adagrad, "adan": timm.optim.Adan,
         "lion": timm.optim.Lion, "muon": timm.optim.Muon}


class Sam:
    """Foret et al. 2020, arXiv:2010.01412, as davda54/sam writes it; `closure` fills in the gradient."""

    def __init__(self, base, rho=0.05, adaptive=False):
        self.base, self.rho, self.adaptive, self.param_groups = base, rho, adaptive, base.param_groups

    @torch.enable_grad()
    def step(self, closure):
        params = [p for group in self.param_groups for p in group["params"]]
        with torch.no_grad():
            scaled = [(p.abs() if self.adaptive else 1.0) * p.grad for p in params]
            scale = self.rho / (torch.stack([g.norm(p=2) for g in scaled]).norm(p=2) + 1e-12)
            old = [p.clone() for p in params]
            for p in params:
                p.add_((p ** 2 if self.adaptive else 1.0) * p.grad * scale)
        closure()
        with torch.no_grad():
            for p, before in zip(params, old):
                p.copy_(before)
        self.base.step()


def build(spec, x, closure):
    """An optimizer and the function that makes one step after the gradient is there."""
    (name, parameters), = spec.items()
    parameters = {key: value for key, value in parameters.items() if key not in ("base", "shape")}
    if name in ("lookahead", "sam"):
        (inner, (optimizer, step)), = ((next(iter(spec[name]["base"])), build(spec[name]["base"], x, closure)),)
        if name == "sam":
            sam = Sam(optimizer, **parameters)
            return sam, lambda: sam.step(closure)
        if inner == "sam":
            # timm's Lookahead wants a torch optimizer: its own step is taken here, around SAM's.
            look = timm.optim.Lookahead(optimizer.base, **parameters)
            look._base_optimizer = type("Around", (), {"step": lambda self, closure=None: step(), "param_groups": optimizer.param_groups, "state": optimizer.base.state})()
        else:
            look = timm.optim.Lookahead(optimizer, **parameters)
        return look, look.step
    if name == "lamb":
        parameters["max_grad_norm"] = parameters.get("max_grad_norm", 1.0) or None
        optimizer = timm.optim.Lamb([x], **parameters, foreach=False)
    else:
        optimizer = NAMES[name]([x], **parameters)
    return optimizer, optimizer.step


def cycled(step):
    """The momentum that a schedule prescribes for a step, counted from 1."""
    return 0.95 - 0.1 * step / STEPS


def trajectory(name, parameters, cycles):
    shape = parameters.get("shape", [N])
    size = math.prod(shape)
    curvature, target = (C, T) if size == N else (CM, TM)
    start = 0.1 if name in ("lamb", "muon") else 0.0
    x = torch.full(shape, start).requires_grad_()

    def closure():
        x.grad = None
        (0.5 * (curvature * (x.flatten() - target) ** 2).sum()).backward()

    optimizer, make = build({name: parameters}, x, closure)
    rows = []
    for step in range(1, STEPS + 1):
        if cycles:  # as OneCycleLR does it
            group = optimizer.param_groups[0]
            if "betas" in group:
                group["betas"] = (cycled(step), *group["betas"][1:])
            else:
                group["momentum"] = cycled(step)
        closure()
        make()
        rows.append([float(value) for value in x.detach().flatten()])
    return rows, shape, start


cases = []
for name, parameters, cycles in CASES:
    rows, shape, start = trajectory(name, parameters, cycles)
    kept = {str(step): rows[step - 1] for step in (1, 2, 3, 5, 10, 20, 35, 50)}
    parameters = {key: value for key, value in parameters.items() if key != "shape"}
    cases.append({"optimizer": {name: parameters}, "cycled": cycles, "shape": shape, "start": start, "x": kept})
problem = [{"curvature": C.tolist(), "target": T.tolist()}, {"curvature": CM.tolist(), "target": TM.tolist()}]
out = pathlib.Path(__file__).with_suffix(".json")
out.write_text(json.dumps({"torch": torch.__version__, "timm": timm.__version__, "problems": problem, "steps": STEPS, "cases": cases}))
