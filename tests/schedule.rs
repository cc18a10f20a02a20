//! Schedules against torch's learning rates (tests/golden/schedule.py).

use runner::schedule::{Clock, ScheduleSpec, warmed_up};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    base: f64,
    epochs: u64,
    steps_per_epoch: u64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    scheduler: ScheduleSpec,
    /// What each entry of `lr` speaks for: an epoch, a step, or a length of the history.
    every: String,
    lr: Vec<f64>,
    momentum: Option<Vec<f64>>,
    total: Option<u64>,
    warmup: Option<Warmup>,
    #[serde(default)]
    history: Vec<f64>,
}

#[derive(Deserialize)]
struct Warmup {
    start_factor: f64,
    steps: u64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/schedule.json")).unwrap()
}

fn close(ours: f64, torch: f64, place: &str) {
    assert!((ours - torch).abs() <= 1e-9 * torch.abs() + 1e-15, "{place}: {ours} and not {torch}");
}

impl Golden {
    fn clock<'a>(&self, case: &'a Case, step: u64) -> Clock<'a> {
        let total_steps = case.total.unwrap_or(self.epochs * self.steps_per_epoch);
        Clock { step, steps_per_epoch: self.steps_per_epoch, total_steps, history: &case.history }
    }

    /// Our rate of a step, through the warm-up where the case has one.
    fn lr(&self, case: &Case, clock: &Clock) -> f64 {
        let schedule = case.scheduler.as_dyn();
        match &case.warmup {
            Some(warmup) => warmed_up(self.base, warmup.start_factor, warmup.steps, clock, schedule),
            None => schedule.lr(self.base, clock),
        }
    }
}

#[test]
fn rates_by_epoch_are_those_of_torch_and_hold_for_the_whole_epoch() {
    let golden = golden();
    let cases: Vec<&Case> = golden.cases.iter().filter(|case| case.every == "epoch").collect();
    assert!(cases.len() >= 14);
    for case in cases {
        for (epoch, torch) in (0..).zip(&case.lr) {
            for step in epoch * golden.steps_per_epoch..(epoch + 1) * golden.steps_per_epoch {
                let place = format!("{:?}, epoch {epoch}", case.scheduler);
                close(golden.lr(case, &golden.clock(case, step)), *torch, &place);
            }
        }
    }
}

#[test]
fn rates_and_momenta_by_step_are_those_of_torch() {
    let golden = golden();
    let cases: Vec<&Case> = golden.cases.iter().filter(|case| case.every == "step").collect();
    assert!(cases.len() >= 17);
    for case in cases {
        for (step, torch) in (0..).zip(&case.lr) {
            let clock = golden.clock(case, step);
            let place = format!("{:?}, step {step}", case.scheduler);
            close(golden.lr(case, &clock), *torch, &place);
            let momentum = case.momentum.as_ref().map(|momenta| momenta[step as usize]);
            let ours = case.scheduler.as_dyn().momentum(&clock);
            assert_eq!(ours.is_some(), momentum.is_some(), "{place}");
            close(ours.unwrap_or(0.0), momentum.unwrap_or(0.0), &place);
        }
    }
}

#[test]
fn plateau_replays_the_history_as_torch_lived_it() {
    let golden = golden();
    let cases: Vec<&Case> = golden.cases.iter().filter(|case| case.every == "history").collect();
    assert!(cases.len() >= 9);
    for case in cases {
        for (length, torch) in case.lr.iter().enumerate() {
            let clock = Clock { history: &case.history[..length], ..golden.clock(case, 0) };
            close(golden.lr(case, &clock), *torch, &format!("{:?} after {length}", case.scheduler));
        }
        assert!(case.lr.first() != case.lr.last(), "the case never lowers the rate: {:?}", case.scheduler);
    }
}

#[test]
fn the_baseline_decays_one_epoch_early() {
    let spec: ScheduleSpec = toml::from_str("step = { step_size = 4, gamma = 0.85, at = 'start' }").unwrap();
    let lr = |epoch: u64| {
        spec.as_dyn().lr(0.005, &Clock { step: epoch * 25, steps_per_epoch: 25, total_steps: 250, history: &[] })
    };
    assert_eq!([lr(0), lr(2), lr(3), lr(6)], [0.005, 0.005, 0.00425, 0.00425]);
    assert!((lr(7) - 0.0036125).abs() < 1e-12);
}

#[test]
fn a_length_of_nothing_is_refused() {
    use garde::Validate;
    for wrong in ["cosine = { t_max = 0 }", "linear = { total_iters = '0 steps' }", "polynomial = { total_iters = 0 }"]
    {
        assert!(toml::from_str::<ScheduleSpec>(wrong).unwrap().validate().is_err(), "{wrong}");
    }
}
