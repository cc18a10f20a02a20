"""Metrics of scikit-learn on scores made by a formula: tests/golden/metric.json. The Rust test makes the same scores.

Scores are f32 and every operation that makes them is exact in both worlds: a 32-bit linear congruential generator,
division by powers of two, rows normalized in f32. Run: python tests/golden/metric.py
"""
import json, pathlib, warnings
import numpy as np
import sklearn
from sklearn import metrics as M

warnings.filterwarnings("ignore")


def numbers(seed, count):
    """Uniform multiples of 2^-16."""
    out, x = np.empty(count, np.float64), seed
    for i in range(count):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        out[i] = (x >> 16) / 65536.0
    return out


def make(samples, classes, seed, levels, skill, only=None):
    """`levels` distinct raw scores (ties!); `skill` is what the right class gets on top."""
    raw = numbers(seed, samples * (classes + 1)).reshape(samples, classes + 1)
    target = np.minimum((raw[:, classes] * classes).astype(np.int64), classes - 1)
    if only is not None:
        target[:] = only
    score = np.floor(raw[:, :classes] * levels) / levels + 1 / 64
    score[np.arange(samples), target] += skill
    score = score.astype(np.float32)
    total = score[:, 0].copy()
    for c in range(1, classes):
        total = (total + score[:, c]).astype(np.float32)
    return (score / total[:, None]).astype(np.float32), target


def ece(p, y, bins=15):
    confidence, right = p.max(1).astype(np.float64), p.argmax(1) == y
    edges = np.arange(1, bins + 1) / bins
    index = np.minimum(np.searchsorted(edges, confidence, side="left"), bins - 1)
    return sum(abs((right[index == b] - confidence[index == b]).sum()) for b in range(bins)) / len(y)


def ranking(y, s):
    """Binary, y in {0, 1}."""
    if y.min() == y.max():
        return None
    fpr, tpr, _ = M.roc_curve(y, s, drop_intermediate=False)
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq

    keep = np.r_[True, (np.diff(fpr) + np.diff(tpr)) > 0]
    curve = interp1d(fpr[keep] + tpr[keep], fpr[keep])  # the curve by arc length, so that vertical parts are no trouble
    out = {"auc": M.roc_auc_score(y, s), "ap": M.average_precision_score(y, s), "eer": float(curve(1.0))}
    for name, limit in [("1e-2", 1e-2), ("5e-3", 5e-3), ("1e-3", 1e-3)]:
        out[f"tpr_at_fpr_{name}"] = float(tpr[fpr <= limit].max())
    return out


def by_class(p, y):
    """Samples, precision, recall, F1 and AUC of each class against the rest."""
    choice, classes = p.argmax(1), range(p.shape[1])
    parts = M.precision_recall_fscore_support(y, choice, labels=list(classes), zero_division=np.nan)
    one = lambda c: (y == c).astype(int)
    auc = [M.roc_auc_score(one(c), p[:, c]) if 0 < one(c).sum() < len(y) else None for c in classes]
    rows = [[int(parts[3][c]), *(float(part[c]) for part in parts[:3]), auc[c]] for c in classes]
    return [[None if x is None or x != x else x for x in row] for row in rows]


def measure(p, y):
    classes, choice = p.shape[1], p.argmax(1)
    out = {"accuracy": M.accuracy_score(y, choice), "balanced_accuracy": M.balanced_accuracy_score(y, choice)}
    out["mcc"], out["ece"] = M.matthews_corrcoef(y, choice), ece(p, y)
    if classes == 2:
        defined = (y == 1).any() or (choice == 1).any()
        out["f1"] = M.f1_score(y, choice) if defined else None
        curves = [ranking(y, p[:, 1])]
    else:
        out["f1"] = M.f1_score(y, choice, average="macro")
        curves = [ranking((y == c).astype(int), p[:, c]) for c in range(classes)]
    for name in ["auc", "ap", "eer", "tpr_at_fpr_1e-2", "tpr_at_fpr_5e-3", "tpr_at_fpr_1e-3"]:
        out[name] = None if None in curves else float(np.mean([curve[name] for curve in curves]))
    if classes > 2 and None not in curves:
        q = p.astype(np.float64) / p.astype(np.float64).sum(1, keepdims=True)
        whole = M.roc_auc_score(y, q, multi_class="ovr", average="macro")
        assert abs(whole - out["auc"]) < 1e-3  # the division moves ties a little
        onehot = np.eye(classes)[y]
        assert abs(M.average_precision_score(onehot, p, average="macro") - out["ap"]) < 1e-12
    return {name: None if value is None else float(value) for name, value in out.items()}


CASES = [
    # samples, classes, seed, levels, skill, only
    (200, 2, 1, 65536, 0.3, None),
    (200, 2, 2, 8, 0.25, None),  # ties
    (50, 2, 3, 1, 0.0, None),  # every score the same
    (40, 2, 4, 64, 0.2, 0),  # one class only
    (40, 2, 5, 64, 0.2, 1),
    (300, 3, 6, 65536, 0.25, None),
    (300, 3, 7, 6, 0.25, None),
    (60, 3, 8, 16, 0.5, 2),
    (1000, 10, 9, 65536, 0.5, None),
    (5000, 2, 10, 65536, 0.5, None),
    (5000, 2, 11, 100, 0.75, None),
    (5000, 10, 12, 32, 0.5, None),
    (1, 2, 13, 16, 0.5, None),
    (300, 2, 14, 65536, -0.5, None),  # worse than chance
    (300, 2, 15, 64, 2.0, None),  # perfect
]
cases = []
for samples, classes, seed, levels, skill, only in CASES:
    p, y = make(samples, classes, seed, levels, skill, only)
    case = {"samples": samples, "classes": classes, "seed": seed, "levels": levels, "skill": skill, "only": only}
    case["values"] = measure(p, y)
    case["checksum"] = float(p.astype(np.float64)[:, -1].sum())
    case["confusion"] = M.confusion_matrix(y, p.argmax(1), labels=range(classes)).tolist()
    case["by_class"] = by_class(p, y)
    if seed in (2, 7):
        fpr, tpr, _ = M.roc_curve((y == 1).astype(int), p[:, 1])
        case["roc"] = [[float(a), float(b)] for a, b in zip(fpr, tpr)]
    cases.append(case)
out = pathlib.Path(__file__).with_suffix(".json")
out.write_text(json.dumps({"sklearn": sklearn.__version__, "cases": cases}, indent=1))
