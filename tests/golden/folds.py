"""scikit-learn's folds of made classes and groups: tests/golden/folds.json.

Run: python tests/golden/folds.py
"""
import json, pathlib
import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

rng = np.random.default_rng(0)

# Images of each class; how many of each class every fold holds out.
stratified = []
for counts, k in [([10, 10], 5), ([13, 7], 5), ([3, 5, 9], 3), ([101, 17], 10), ([4, 4, 4, 5], 2), ([7, 100, 23, 11], 7)]:
    # The classes appear in their order, as folds of other orders only rename them.
    y = np.concatenate([np.arange(len(counts)), rng.permutation(np.repeat(np.arange(len(counts)), np.array(counts) - 1))])
    splits = StratifiedKFold(k, shuffle=True, random_state=1).split(y, y)
    stratified.append({"counts": counts, "k": k, "held": [np.bincount(y[held], minlength=len(counts)).tolist() for _, held in splits]})

# Images of each class in each group; the fold of each group.
grouped = []
for groups, classes, k, scale in [(12, 2, 3, 6), (30, 2, 5, 20), (25, 3, 4, 8), (60, 4, 10, 5), (9, 2, 9, 4)]:
    counts = rng.integers(0, scale, (groups, classes))
    counts[:, 0] += 1
    y = np.concatenate([np.repeat(np.arange(classes), row) for row in counts])
    group = np.repeat(np.arange(groups), counts.sum(1))
    fold = np.full(groups, -1)
    for index, (_, held) in enumerate(StratifiedGroupKFold(k).split(y, y, group)):
        fold[np.unique(group[held])] = index
    grouped.append({"counts": counts.tolist(), "k": k, "fold": fold.tolist()})

golden = {"stratified": stratified, "grouped": grouped}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
