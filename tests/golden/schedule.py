"""Learning rates of torch's schedulers, one list a case: tests/golden/schedule.json.

`epoch` cases call scheduler.step() after each epoch, `step` cases after each optimizer step; the rate is read before.
Run: python tests/golden/schedule.py
"""
import json, math, pathlib, warnings
import torch
from torch.optim import lr_scheduler as S

warnings.filterwarnings("ignore")
BASE, EPOCHS, PER_EPOCH = 0.005, 12, 7
TOTAL = EPOCHS * PER_EPOCH


def optimizer(momentum=False):
    x = torch.zeros(1, requires_grad=True)
    return torch.optim.SGD([x], lr=BASE, momentum=0.9 if momentum else 0.0)


def by_epoch(make, at_start=False):
    """The rate of each epoch."""
    o = optimizer()
    s, rates = make(o), []
    for _ in range(EPOCHS):
        o.step()
        if at_start:
            s.step()
        rates.append(o.param_groups[0]["lr"])
        if not at_start:
            s.step()
    return rates


def by_step(make, total=TOTAL):
    """The rate and the momentum of each step."""
    o = optimizer(momentum=True)
    s, rates, momenta = make(o), [], []
    for i in range(total):
        o.step()
        rates.append(o.param_groups[0]["lr"])
        momenta.append(o.param_groups[0]["momentum"])
        if i + 1 < total:
            s.step()
    return rates, momenta


cases = []


def epoch(ours, make, **more):
    cases.append({"scheduler": ours, "every": "epoch", "lr": by_epoch(make, **more)})


def step(ours, make, warmup=None, total=TOTAL):
    rates, momenta = by_step(make, total)
    case = {"scheduler": ours, "every": "step", "lr": rates, "total": total}
    if "one_cycle" in ours:
        case["momentum"] = momenta
    if warmup:
        case["warmup"] = warmup
    cases.append(case)


epoch({"constant": {}}, lambda o: S.ConstantLR(o, factor=1.0))
epoch({"step": {"step_size": 4, "gamma": 0.85}}, lambda o: S.StepLR(o, 4, 0.85))
epoch({"step": {"step_size": 4, "gamma": 0.85, "at": "start"}}, lambda o: S.StepLR(o, 4, 0.85), at_start=True)
epoch({"step": {"step_size": 1, "gamma": 0.5, "at": "start"}}, lambda o: S.StepLR(o, 1, 0.5), at_start=True)
epoch({"step": {}}, lambda o: S.StepLR(o, 10))
epoch({"multistep": {"milestones": [3, 7, 7, 9], "gamma": 0.3}}, lambda o: S.MultiStepLR(o, [3, 7, 7, 9], 0.3))
epoch({"multistep": {"milestones": [0, 2]}}, lambda o: S.MultiStepLR(o, [0, 2]))
epoch({"exponential": {"gamma": 0.8}}, lambda o: S.ExponentialLR(o, 0.8))
epoch({"polynomial": {}}, lambda o: S.PolynomialLR(o, EPOCHS))
epoch({"polynomial": {"total_iters": 5, "power": 2.0}}, lambda o: S.PolynomialLR(o, 5, 2.0))
epoch({"linear": {}}, lambda o: S.LinearLR(o))
epoch({"linear": {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 8}}, lambda o: S.LinearLR(o, 1.0, 0.1, 8))
epoch({"cosine": {}}, lambda o: S.CosineAnnealingLR(o, EPOCHS))
epoch({"cosine": {"t_max": 5, "eta_min": 1e-4}}, lambda o: S.CosineAnnealingLR(o, 5, 1e-4))
step({"cosine": {"every": "step"}}, lambda o: S.CosineAnnealingLR(o, TOTAL))
step({"cosine": {"every": "step", "t_max": "30 steps", "eta_min": 1e-3}}, lambda o: S.CosineAnnealingLR(o, 30, 1e-3))
step({"linear": {"every": "step", "total_iters": "20 steps"}}, lambda o: S.LinearLR(o, total_iters=20))
step({"polynomial": {"every": "step", "power": 0.9}}, lambda o: S.PolynomialLR(o, TOTAL, 0.9))
step({"exponential": {"every": "step", "gamma": 0.5}}, lambda o: S.ExponentialLR(o, 0.5 ** (1 / PER_EPOCH)))


def one_cycle(total=TOTAL, **parameters):
    step({"one_cycle": parameters}, lambda o: S.OneCycleLR(o, BASE, total_steps=total, **parameters), total=total)


one_cycle()
one_cycle(pct_start=0.1, div_factor=10.0, final_div_factor=100.0)
one_cycle(anneal_strategy="linear")
one_cycle(three_phase=True)
one_cycle(three_phase=True, anneal_strategy="linear", pct_start=0.2)
one_cycle(base_momentum=0.7, max_momentum=0.9)
one_cycle(total=7)
one_cycle(total=21, pct_start=0.5, three_phase=True)


def warmed(ours, make, start, steps):
    chain = lambda o: S.SequentialLR(o, [S.LinearLR(o, start, total_iters=steps), make(o)], milestones=[steps])
    step(ours, chain, warmup={"start_factor": start, "steps": steps})


warmed({"constant": {}}, lambda o: S.ConstantLR(o, factor=1.0), 0.01, 10)
warmed({"cosine": {"every": "step"}}, lambda o: S.CosineAnnealingLR(o, TOTAL - 10), 1 / 3, 10)
warmed({"polynomial": {"every": "step"}}, lambda o: S.PolynomialLR(o, TOTAL - 21), 0.1, 21)
warmed({"step": {"step_size": 3, "gamma": 0.5}}, lambda o: S.StepLR(o, 3 * PER_EPOCH, 0.5), 0.1, 9)


def plateau(values, mode="min", **parameters):
    """`history` is what our clock holds: losses, or negated metrics."""
    o = optimizer()
    s, rates = S.ReduceLROnPlateau(o, mode=mode, **parameters), [BASE]
    for value in values:
        s.step(value)
        rates.append(o.param_groups[0]["lr"])
    history = values if mode == "min" else [-value for value in values]
    cases.append({"scheduler": {"plateau": parameters}, "every": "history", "history": history, "lr": rates})


bumpy = [1 + 0.5 * math.cos(i) * math.exp(-i / 15) for i in range(40)]
slow = [1 - 1e-5 * i for i in range(30)]
rising = [0.5 + 0.4 * (1 - math.exp(-i / 4)) + 0.01 * math.sin(3 * i) for i in range(40)]
plateau(bumpy + bumpy[::-1] + [1.0] * 10)
plateau(slow, patience=5)
plateau(bumpy, patience=2, factor=0.5, cooldown=3)
plateau(slow, patience=1, threshold=2.5e-5, threshold_mode="abs")
plateau(bumpy, patience=0, factor=0.3, min_lr=1e-4)
plateau(bumpy, patience=1, factor=0.9, eps=1e-4)
plateau(rising, mode="max", patience=2, factor=0.5)
plateau(rising, mode="max", patience=1, threshold=0.02, threshold_mode="abs", cooldown=1)
plateau(rising, mode="max", patience=1, threshold=0.02)

out = pathlib.Path(__file__).with_suffix(".json")
out.write_text(json.dumps({"torch": torch.__version__, "base": BASE, "epochs": EPOCHS, "steps_per_epoch": PER_EPOCH, "cases": cases}))
