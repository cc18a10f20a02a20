"""Measures this program's TPE against random search and Optuna's TPE: five functions, 60 trials, 20 repetitions.

    cargo build --release && pip install optuna
    python tests/search/compare.py target/release/runner [--repetitions 20] [--trials 60]

Prints medians of the best value and quartile ranges, and exits with 1 where TPE does not beat random search on four of
five functions, or is worse than Optuna's by more than Optuna's own quartile range.
"""

import argparse
import json
import statistics
import subprocess
import sys
import warnings

import optuna

from functions import FUNCTIONS


def toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


def ours(runner, sampler, function, space, trials, seed):
    """The best of a search through `runner ask`."""
    text = "\n".join(f"{name} = {toml(distribution)}" for name, distribution in space.items())
    process = subprocess.Popen([runner, "ask"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    question = {"sampler": sampler, "trials": trials, "seed": seed, "space": text}
    print(json.dumps(question), file=process.stdin, flush=True)
    best = float("inf")
    for line in process.stdout:
        loss = function(json.loads(line))
        best = min(best, loss)
        print(repr(loss), file=process.stdin, flush=True)
    assert process.wait() == 0
    return best


def holds(point, when):
    allowed = lambda value: value if isinstance(value, list) else [value]
    return all(point.get(name) in allowed(value) for name, value in when.items())


def suggest(trial, space):
    point = {}
    for name, distribution in space.items():
        if not holds(point, distribution.get("when", {})):
            continue
        if "uniform" in distribution:
            point[name] = trial.suggest_float(name, *distribution["uniform"])
        elif "log_uniform" in distribution:
            point[name] = trial.suggest_float(name, *distribution["log_uniform"], log=True)
        elif "int" in distribution:
            point[name] = trial.suggest_int(name, *distribution["int"], log=distribution.get("log", False))
        else:
            point[name] = trial.suggest_categorical(name, distribution["choice"])
    return point


def optunas(sampler, function, space, trials, seed):
    study = optuna.create_study(sampler=sampler(seed))
    study.optimize(lambda trial: function(suggest(trial, space)), n_trials=trials)
    return study.best_value


def quartiles(values):
    low, _, high = statistics.quantiles(values, n=4)
    return statistics.median(values), high - low


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runner")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--trials", type=int, default=60)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = {
        "optuna": lambda seed: optuna.samplers.TPESampler(seed=seed),
        "optuna group": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
    }
    print(f"best of {options.trials} trials: median (quartile range) over {options.repetitions} repetitions")
    print(f"{'':14}" + "".join(f"{name:>22}" for name in ["random", "tpe", *samplers]))
    beats, worse = 0, []
    for name, (function, space) in FUNCTIONS.items():
        seeds = range(options.repetitions)
        row = {
            kind: quartiles([ours(options.runner, kind, function, space, options.trials, seed) for seed in seeds])
            for kind in ["random", "tpe"]
        }
        for other, sampler in samplers.items():
            row[other] = quartiles([optunas(sampler, function, space, options.trials, seed) for seed in seeds])
        print(f"{name:14}" + "".join(f"{median:>12.4f} ({spread:.4f})" for median, spread in row.values()), flush=True)
        beats += row["tpe"][0] < row["random"][0]
        if row["tpe"][0] > row["optuna"][0] + row["optuna"][1]:
            worse.append(name)
    print(f"TPE beats random search on {beats} of {len(FUNCTIONS)}; worse than Optuna's on: {', '.join(worse) or 'none'}")
    sys.exit(beats < 4 or bool(worse))


if __name__ == "__main__":
    main()
