//! Optimizers against torch's trajectories (tests/golden/optim.py).

use runner::optim::{OptimizerSpec, Step};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    curvature: Vec<f32>,
    target: Vec<f32>,
    steps: u64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    optimizer: OptimizerSpec,
    cycled: bool,
    x: BTreeMap<u64, Vec<f32>>,
}

#[test]
fn trajectories_are_those_of_torch() {
    let golden: Golden = serde_json::from_str(include_str!("golden/optim.json")).unwrap();
    for case in &golden.cases {
        let rule = case.optimizer.as_dyn();
        let mut x = vec![0.0; golden.target.len()];
        let mut slots: Vec<Vec<f32>> = rule.slots().iter().map(|_| vec![0.0; x.len()]).collect();
        let mut compared = 0;
        for count in 1..=golden.steps {
            let slopes = x.iter().zip(&golden.curvature).zip(&golden.target);
            let gradient: Vec<f32> = slopes.map(|((x, c), t)| c * (x - t)).collect();
            let momentum = case.cycled.then(|| 0.95 - 0.1 * count as f64 / golden.steps as f64);
            let step = Step { count, lr: rule.lr(), weight_decay: rule.weight_decay(), momentum };
            rule.update(&step, &mut x, &gradient, &mut slots);
            let Some(expected) = case.x.get(&count) else { continue };
            compared += 1;
            for (ours, torch) in x.iter().zip(expected) {
                let off = (ours - torch).abs() / torch.abs().max(1.0);
                assert!(off < 1e-5, "{:?}, step {count}: {ours} and not {torch}", case.optimizer);
            }
        }
        assert_eq!(compared, case.x.len());
    }
    assert_eq!(golden.cases.len(), 16);
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
        let mut slots: Vec<Vec<f32>> = rule.slots().iter().map(|_| vec![0.0; n]).collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let mut best = f64::INFINITY;
        for count in 1..=8 {
            let step = Step { count, lr: 1e-3, weight_decay: 0.01, momentum: None };
            let start = std::time::Instant::now();
            pool.install(|| rule.update(&step, &mut x, &gradient, &mut slots));
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!("{}: {:.1} ms for {n} parameters on one thread", spec.name(), best * 1e3);
    }
}
