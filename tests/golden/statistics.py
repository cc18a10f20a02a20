"""Golden numbers for tests/statistics.rs, from SciPy and NumPy: python tests/golden/statistics.py"""

import json
from pathlib import Path

import numpy as np
from scipy import stats


def holm(p):
    """Holm (1979), as R's p.adjust(method = "holm")."""
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(np.minimum(np.array(p)[order] * (len(p) - np.arange(len(p))), 1.0))
    result = np.empty(len(p))
    result[order] = adjusted
    return result.tolist()


def pairs_needed(sd, difference, alpha):
    """Smallest n whose exact power (noncentral t) is at least 0.8."""
    for n in range(2, 2000):
        critical = stats.t.ppf(1 - alpha / 2, n - 1)
        shift = abs(difference) / sd * np.sqrt(n)
        if stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift) >= 0.8:
            return n


rng = np.random.default_rng(0)
samples = [rng.normal(0.9, 0.02, n).tolist() for n in (2, 3, 5, 10, 40)]
pairs = []
for n in (2, 3, 5, 10, 40):
    a = rng.normal(0.90, 0.02, n)
    b = a + rng.normal(0.01, 0.015, n)
    test = stats.ttest_rel(b, a)
    low, high = test.confidence_interval(0.95)
    # Nadeau & Bengio (2003), eq. 9: 1/n + n_test/n_train in place of 1/n; here a quarter, as of five folds.
    error = np.std(b - a, ddof=1) * np.sqrt(1 / n + 0.25)
    corrected = stats.t(df=n - 1, loc=0, scale=1)
    pairs.append({
        "differences": (b - a).tolist(),
        "difference": float(np.mean(b - a)),
        "sd": float(np.std(b - a, ddof=1)),
        "interval": [float(low), float(high)],
        "p": float(test.pvalue),
        "resampled": [
            float(np.mean(b - a) - corrected.ppf(0.975) * error),
            float(np.mean(b - a) + corrected.ppf(0.975) * error),
            float(2 * corrected.sf(abs(np.mean(b - a)) / error)),
        ],
    })
p_values = [[0.04], [0.01, 0.04, 0.03], [0.2, 0.001, 0.02, 0.02, 0.9], [0.6, 0.7]]
needed = [[0.01, 0.01, 0.05], [0.02, 0.01, 0.05], [0.02, 0.01, 0.01], [0.01, 0.002, 0.05], [0.001, 0.02, 0.05]]
quantiles = [(p, df) for p in (0.025, 0.5, 0.8, 0.975, 0.999) for df in (1, 2, 3, 4.5, 9, 30, 999)]
distribution = [(t, df) for t in (-30.0, -2.5, -0.1, 0.0, 0.7, 3.0) for df in (1, 2, 5, 29, 500)]
golden = {
    "samples": [
        {"values": s, "mean": float(np.mean(s)), "sd": float(np.std(s, ddof=1)),
         "half_width": float(stats.t.ppf(0.975, len(s) - 1) * stats.sem(s))}
        for s in samples
    ],
    "pairs": pairs,
    "t_quantile": [[p, df, float(stats.t.ppf(p, df))] for p, df in quantiles],
    "t_cdf": [[t, df, float(stats.t.cdf(t, df))] for t, df in distribution],
    "holm": [[p, holm(p)] for p in p_values],
    "pairs_needed": [[*case, pairs_needed(*case)] for case in needed],
    "quantile": [[p, float(np.quantile(samples[4], p))] for p in (0.0, 0.025, 0.4, 0.975, 1.0)],
}
Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
