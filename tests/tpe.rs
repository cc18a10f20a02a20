//! TPE against random search on functions with mixed and conditional spaces; `tests/search/compare.py` adds Optuna's.

use runner::{
    spec::{Sampler, Space},
    sweep::search::{self, Observation, Outcome},
};
use std::collections::BTreeMap;

const TRIALS: usize = 60;

/// A function to make small.
type Function = fn(&Point) -> f64;

type Point = BTreeMap<String, toml::Value>;

fn number(point: &Point, key: &str) -> f64 {
    let value = &point[key];
    value.as_float().or(value.as_integer().map(|number| number as f64)).unwrap_or_else(|| panic!("{key}: {value}"))
}

fn text<'a>(point: &'a Point, key: &str) -> &'a str {
    point[key].as_str().unwrap()
}

/// The best loss of a search.
fn best(sampler: Sampler, seed: u64, space: &str, function: Function) -> f64 {
    let space = Space::alone(sampler, TRIALS, seed, space).unwrap();
    let mut history: Vec<Observation> = Vec::new();
    let mut known = search::known_points(&space).into_iter();
    while history.len() < TRIALS {
        let sample = known.next().or_else(|| search::suggest(&space, &history)).expect("another point");
        let loss = function(&space.values(&sample).into_iter().collect());
        history.push(Observation { sample, outcome: Outcome::Finished { loss } });
    }
    let loss = |trial: &Observation| match trial.outcome {
        Outcome::Finished { loss } => loss,
        _ => f64::INFINITY,
    };
    history.iter().map(loss).fold(f64::INFINITY, f64::min)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn mixed_branin(p: &Point) -> f64 {
    let shift = match text(p, "shift") {
        "none" => 0.0,
        "left" => 1.5,
        _ => -3.0,
    };
    let (x, y, pi) = (number(p, "x") + shift, number(p, "y"), std::f64::consts::PI);
    let arc = y - 5.1 / (4.0 * pi * pi) * x * x + 5.0 / pi * x - 6.0;
    arc * arc + 10.0 * (1.0 - 1.0 / (8.0 * pi)) * x.cos() + 10.0
}

const MIXED_BRANIN: &str = r#"
x = { uniform = [-5.0, 10.0] }
y = { int = [0, 15] }
shift = { choice = ["none", "left", "right"] }
"#;

fn optimizer(p: &Point) -> f64 {
    let off = |key: &str, best: f64| (number(p, key) / best).log10().powi(2);
    let loss = 0.1 + 0.03 * off("decay", 1e-4);
    match text(p, "optimizer") {
        "sgd" => loss + 0.08 * off("sgd_lr", 0.1) + 0.5 * (number(p, "momentum") - 0.9).powi(2),
        "adam" => loss + 0.02 + 0.06 * off("adam_lr", 1e-3) + 0.2 * (number(p, "beta") - 0.95).powi(2),
        _ => loss + 0.05 + 0.05 * off("rms_lr", 3e-4),
    }
}

const OPTIMIZER: &str = r#"
optimizer = { choice = ["sgd", "adam", "rmsprop"] }
decay = { log_uniform = [1e-6, 1e-1] }
sgd_lr = { log_uniform = [1e-4, 1e1], when = { optimizer = "sgd" } }
momentum = { uniform = [0.0, 0.99], when = { optimizer = "sgd" } }
adam_lr = { log_uniform = [1e-6, 1e0], when = { optimizer = "adam" } }
beta = { uniform = [0.5, 0.999], when = { optimizer = "adam" } }
rms_lr = { log_uniform = [1e-6, 1e0], when = { optimizer = "rmsprop" } }
"#;

fn network(p: &Point) -> f64 {
    let (mut loss, widths): (f64, &[f64]) = match p["layers"].as_integer() {
        Some(1) => (0.25, &[200.0]),
        Some(2) => (0.1, &[120.0, 60.0]),
        _ => (0.12, &[90.0, 60.0, 30.0]),
    };
    for (index, width) in widths.iter().enumerate() {
        loss += 0.05 * (number(p, &format!("width{}", index + 1)) / width).log2().powi(2);
    }
    let activation = match text(p, "activation") {
        "relu" => 0.0,
        "tanh" => 0.08,
        _ => 0.02,
    };
    loss + activation + (number(p, "dropout") - 0.2).powi(2)
}

const NETWORK: &str = r#"
layers = { choice = [1, 2, 3] }
activation = { choice = ["relu", "tanh", "gelu"] }
dropout = { uniform = [0.0, 0.9] }
width1 = { int = [4, 1024], log = true }
width2 = { int = [4, 1024], log = true, when = { layers = [2, 3] } }
width3 = { int = [4, 1024], log = true, when = { layers = 3 } }
"#;

#[test]
fn tpe_beats_random_search() {
    let functions: [(&str, Function); 3] = [(MIXED_BRANIN, mixed_branin), (OPTIMIZER, optimizer), (NETWORK, network)];
    for (space, function) in functions {
        let of = |sampler| median((0..9).map(|seed| best(sampler, seed, space, function)).collect());
        let (tpe, random) = (of(Sampler::Tpe), of(Sampler::Random));
        assert!(tpe < random, "TPE came to {tpe}, random search to {random} on {space}");
    }
}

#[test]
fn a_suggestion_follows_from_the_history() {
    let run = || best(Sampler::Tpe, 3, NETWORK, network);
    assert_eq!(run().to_bits(), run().to_bits());
}

/// Trials at work are taken for bad ones: several at once do not all try the same place.
#[test]
fn several_at_once_do_not_flock() {
    let space = Space::alone(Sampler::Tpe, 100, 0, "x = { uniform = [0.0, 1.0] }").unwrap();
    let mut history: Vec<Observation> = (0..20)
        .map(|i| Observation {
            sample: vec![Some(f64::from(i) / 20.0)],
            outcome: Outcome::Finished { loss: (f64::from(i) / 20.0 - 0.5).powi(2) },
        })
        .collect();
    for _ in 0..8 {
        let sample = search::suggest(&space, &history).unwrap();
        assert!(history.iter().all(|earlier| earlier.sample != sample));
        history.push(Observation { sample, outcome: Outcome::Running });
    }
    let tried: Vec<f64> = history[20..].iter().filter_map(|trial| trial.sample[0]).collect();
    let spread = tried.iter().copied().fold(f64::MIN, f64::max) - tried.iter().copied().fold(f64::MAX, f64::min);
    assert!(spread > 0.1, "{tried:?}");
}

/// A trial that was stopped early counts as worse than every one that finished.
#[test]
fn pruned_trials_teach_too() {
    let space = Space::alone(Sampler::Tpe, 100, 0, "x = { uniform = [0.0, 1.0] }").unwrap();
    let history: Vec<Observation> = (0..40)
        .map(|i| {
            let x = f64::from(i) / 40.0;
            let outcome = match x < 0.7 {
                true => Outcome::Reached { epoch: 1, loss: 0.0 },
                false => Outcome::Finished { loss: 1.0 },
            };
            Observation { sample: vec![Some(x)], outcome }
        })
        .collect();
    let next = search::suggest(&space, &history).unwrap()[0].unwrap();
    assert!(next > 0.5, "{next}");
}
