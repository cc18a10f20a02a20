//! Points drawn from their distributions, independently of results.

use super::REDRAWS;
use crate::{
    spec::{Domain, Sample, Space},
    tensor::rng::Key,
};

/// The first `count` points, none twice; fewer where the space has no more. With `strata` the first so many are a Latin
/// hypercube: each dimension takes each part of its range once (McKay et al. 1979).
pub fn points(space: &Space, count: usize, strata: Option<usize>) -> Vec<Sample> {
    let mut points: Vec<Sample> = Vec::new();
    for trial in 0..count as u64 {
        let new = |sample: &Sample| !points.contains(sample);
        let draws = (0..REDRAWS).map(|again| draw_in(space, trial, again, strata.filter(|_| again == 0)));
        let Some(sample) = { draws }.find(new) else { break };
        points.push(sample);
    }
    points
}

/// The point of a trial, drawn for the `again`th time.
pub fn draw(space: &Space, trial: u64, again: u64) -> Sample {
    draw_in(space, trial, again, None)
}

/// Each dimension has random numbers of its own, so that another dimension changes nothing about it.
fn draw_in(space: &Space, trial: u64, again: u64, strata: Option<usize>) -> Sample {
    let key = Key::new(space.seed).named("search");
    let mut sample = Sample::new();
    for dimension in &space.dimensions {
        let drawn = key.with(trial).with(again).named(dimension.path()).rng().uniform();
        let share = match strata {
            Some(strata) => {
                let order = key.named("strata").named(dimension.path()).rng().permutation(strata);
                (order.get(trial as usize).copied().unwrap_or(0) as f64 + drawn) / strata as f64
            }
            None => drawn,
        };
        sample.push(dimension.exists(&sample).then(|| at(&dimension.domain, share)));
    }
    sample
}

/// The value below which this share of a distribution lies.
fn at(domain: &Domain, share: f64) -> f64 {
    let between = |low: f64, high: f64| low + (high - low) * share;
    let value = match *domain {
        Domain::Choice { of } => (share * of as f64).floor(),
        Domain::Real { low, high, log: false } => between(low, high),
        Domain::Real { low, high, log: true } => between(low.ln(), high.ln()).exp(),
        Domain::Int { low, high, log: true, .. } => between((low as f64 - 0.5).ln(), (high as f64 + 0.5).ln()).exp(),
        Domain::Int { low, high, step, log: false } => {
            let steps = (high - low) / step + 1;
            low as f64 + (share * steps as f64).floor() * step as f64
        }
    };
    domain.tidy(value)
}
