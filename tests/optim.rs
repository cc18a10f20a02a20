//! Optimizers against torch's and timm's trajectories (tests/golden/optim.py).

use runner::optim::{OptimizerSpec, Sharpness, Slot, Step};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    problems: Vec<Problem>,
    steps: u64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Problem {
    curvature: Vec<f32>,
    target: Vec<f32>,
}

impl Problem {
    fn gradient(&self, x: &[f32]) -> Vec<f32> {
        x.iter().zip(&self.curvature).zip(&self.target).map(|((x, c), t)| c * (x - t)).collect()
    }
}

#[derive(Deserialize)]
struct Case {
    optimizer: OptimizerSpec,
    cycled: bool,
    shape: Vec<usize>,
    start: f32,
    x: BTreeMap<u64, Vec<f32>>,
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// Where the loss is highest nearby.
fn raised(x: &[f32], gradient: &[f32], Sharpness { rho, adaptive }: Sharpness) -> Vec<f32> {
    let size = |x: f32| if adaptive { x.abs() } else { 1.0 };
    let scale = (rho / (norm(x.iter().zip(gradient).map(|(x, g)| size(*x) * g)) + 1e-12)) as f32;
    x.iter().zip(gradient).map(|(x, g)| x + size(*x) * size(*x) * g * scale).collect()
}

#[test]
fn trajectories_are_the_originals() {
    let golden: Golden = serde_json::from_str(include_str!("golden/optim.json")).unwrap();
    for case in &golden.cases {
        let rule = case.optimizer.as_dyn();
        let size: usize = case.shape.iter().product();
        let problem = golden.problems.iter().find(|problem| problem.target.len() == size).unwrap();
        let mut x = vec![case.start; size];
        let mut slots: Vec<Vec<f32>> = rule.slots(&case.shape).iter().map(Slot::fresh).collect();
        let mut compared = 0;
        for count in 1..=golden.steps {
            let mut gradient = problem.gradient(&x);
            if let Some(sharpness) = rule.sharpness() {
                gradient = problem.gradient(&raised(&x, &gradient, sharpness));
            }
            let step = Step {
                count,
                lr: rule.lr(),
                weight_decay: rule.weight_decay(),
                momentum: case.cycled.then(|| 0.95 - 0.1 * count as f64 / golden.steps as f64),
                shape: &case.shape,
                gradient_norm: norm(gradient.iter().copied()),
            };
            rule.update(&step, &mut x, &gradient, &mut slots);
            let Some(expected) = case.x.get(&count) else { continue };
            compared += 1;
            for (ours, original) in x.iter().zip(expected) {
                let off = (ours - original).abs() / original.abs().max(1.0);
                assert!(off < 1e-5, "{:?}, step {count}: {ours} and not {original}", case.optimizer);
            }
        }
        assert_eq!(compared, case.x.len());
    }
    let missing: Vec<_> = OptimizerSpec::NAMES
        .iter()
        .filter(|name| !golden.cases.iter().any(|case| case.optimizer.name() == **name))
        .collect();
    assert!(missing.is_empty() && golden.cases.len() == 50, "{missing:?}, {}", golden.cases.len());
}

#[test]
fn a_wrapper_inside_itself_is_refused() {
    use garde::Validate;
    let check = |text: &str| toml::from_str::<OptimizerSpec>(text).unwrap().validate();
    assert!(check("lookahead.base.sam.base.sgd = { lr = 0.1 }").is_ok());
    for wrong in ["lookahead.base.lookahead = {}", "sam.base.lookahead.base.sam = {}"] {
        let message = check(wrong).unwrap_err().to_string();
        assert!(message.contains("cannot stand inside"), "{message}");
    }
    // What the base refuses is refused inside a wrapper too.
    assert!(check("lookahead.base.sgd = { lr = -1.0 }").is_err());
}

#[test]
fn nesterov_without_momentum_or_with_dampening_is_refused() {
    use garde::Validate;
    let check = |text: &str| toml::from_str::<OptimizerSpec>(text).unwrap().validate();
    assert!(check("sgd = { nesterov = true, momentum = 0.9 }").is_ok());
    for wrong in ["sgd = { nesterov = true }", "sgd = { nesterov = true, momentum = 0.9, dampening = 0.1 }"] {
        let message = check(wrong).unwrap_err().to_string();
        assert!(message.contains("nesterov") && message.contains("momentum"), "{message}");
    }
}

/// How long one step takes: `cargo test --release --test optim -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn time_of_a_step() {
    let n = 11_500_000;
    for spec in OptimizerSpec::every() {
        let rule = spec.as_dyn();
        let (mut x, gradient) = (vec![0.1; n], vec![0.01; n]);
        let mut slots: Vec<Vec<f32>> = rule.slots(&[n]).iter().map(Slot::fresh).collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let mut best = f64::INFINITY;
        for count in 1..=8 {
            let step = Step { count, lr: 1e-3, weight_decay: 0.01, momentum: None, shape: &[n], gradient_norm: 1.0 };
            let start = std::time::Instant::now();
            pool.install(|| rule.update(&step, &mut x, &gradient, &mut slots));
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!("{}: {:.1} ms for {n} parameters on one thread", spec.name(), best * 1e3);
    }
}
