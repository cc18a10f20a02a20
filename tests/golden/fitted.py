"""Temperatures, thresholds and ensemble weights of scipy and scikit-learn on scores made by a formula, and views of
Pillow: tests/golden/fitted.json. The Rust test makes the same scores. Run: python tests/golden/fitted.py
"""
import json, pathlib
import numpy as np
import scipy
from PIL import Image
from scipy import optimize
from scipy.special import log_softmax
from sklearn import metrics as M


def numbers(seed, count):
    """Uniform multiples of 2^-16."""
    out, x = np.empty(count, np.float64), seed
    for i in range(count):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        out[i] = (x >> 16) / 65536.0
    return out


def make(samples, classes, seed, skill, targets=None):
    """Rows of f32 probabilities, and targets where none are given."""
    raw = numbers(seed, samples * (classes + 1)).reshape(samples, classes + 1)
    if targets is None:
        targets = np.minimum((raw[:, classes] * classes).astype(np.int64), classes - 1)
    score = raw[:, :classes] ** 4 + 1 / 64
    score[np.arange(samples), targets] += skill
    score = score.astype(np.float32)
    total = score[:, 0].copy()
    for c in range(1, classes):
        total = (total + score[:, c]).astype(np.float32)
    return (score / total[:, None]).astype(np.float32), targets


def temperature(p, y):
    z = np.log(p.astype(np.float64))
    loss = lambda t: -log_softmax(z / t, axis=1)[np.arange(len(y)), y].mean()
    found = optimize.minimize_scalar(loss, bounds=(0.01, 100), method="bounded", options={"xatol": 1e-10})
    return {"temperature": float(found.x), "loss": float(found.fun), "loss_at_1": float(loss(1.0))}


def weights(models, y, logits):
    z = np.stack([p.astype(np.float64) for p in models])
    if logits:
        loss = lambda w: -log_softmax(np.tensordot(w, np.log(z), 1), axis=1)[np.arange(len(y)), y].mean()
    else:
        loss = lambda w: -np.log(np.tensordot(w, z[:, np.arange(len(y)), y], 1)).mean()
    k = len(models)
    found = optimize.minimize(
        loss, np.full(k, 1 / k), method="SLSQP", bounds=[(0, 1)] * k, options={"ftol": 1e-15, "maxiter": 1000},
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1})
    return {"weights": found.x.tolist(), "loss": float(found.fun)}


def thresholds(p, y):
    s = p[:, 1]
    fpr, tpr, cut = M.roc_curve(y, s, drop_intermediate=False)
    neg, pos = (y == 0).sum(), (y == 1).sum()
    right = (tpr * pos + (1 - fpr) * neg) / len(y)
    best = {"youden": float((tpr - fpr).max()), "accuracy": float(right.max())}
    for limit in (0.1, 0.01):
        best[f"fpr={limit}"] = float(tpr[fpr <= limit].max())
    return best


CASES = [(400, 2, 1, 0.3), (400, 2, 2, 0.05), (300, 3, 3, 0.4), (1000, 10, 4, 0.2), (60, 2, 5, 0.6)]
cases = []
for samples, classes, seed, skill in CASES:
    p, y = make(samples, classes, seed, skill)
    case = {"samples": samples, "classes": classes, "seed": seed, "skill": skill, **temperature(p, y)}
    case["checksum"] = float(p.astype(np.float64)[:, -1].sum())
    if classes == 2:
        case["best"] = thresholds(p, y)
    models = [p] + [make(samples, classes, seed + 100 * k, skill * factor, y)[0] for k, factor in ((1, 1.5), (2, 0.2))]
    case["ensembles"] = {"probabilities": weights(models, y, False), "logits": weights(models, y, True)}
    cases.append(case)

rng = np.random.default_rng(0)
picture = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
T = Image.Transpose
turns = {"identity": None, "hflip": T.FLIP_LEFT_RIGHT, "vflip": T.FLIP_TOP_BOTTOM, "rot90": T.ROTATE_90,
         "rot180": T.ROTATE_180, "rot270": T.ROTATE_270, "transpose": T.TRANSPOSE, "transverse": T.TRANSVERSE}
image = Image.fromarray(picture)
views = {name: np.asarray(image if turn is None else image.transpose(turn)).ravel().tolist() for name, turn in turns.items()}
large = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
image = Image.fromarray(large)
left = lambda x, y: image.crop((x, y, x + 14, y + 14)).resize((8, 8), Image.BILINEAR)
crops = [np.asarray(left(*at)).ravel().tolist() for at in ((0, 0), (2, 0), (0, 2), (2, 2), (1, 1))]
small = np.asarray(image.resize((6, 6), Image.BILINEAR))
reflected = np.pad(small, ((1, 1), (1, 1), (0, 0)), mode="reflect").ravel().tolist()
out = {"scipy": scipy.__version__, "cases": cases, "picture": picture.ravel().tolist(), "views": views,
       "large": large.ravel().tolist(), "crops": crops, "reflected": reflected}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(out))
