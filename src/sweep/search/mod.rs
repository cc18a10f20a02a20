//! Picks the points of a searched space. Every pick is a pure function of the space, the number of the trial and what
//! earlier trials came to.

pub mod random;
pub mod tpe;

use crate::spec::{Sample, Sampler, Space};

/// An earlier trial and how far it has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub sample: Sample,
    pub outcome: Outcome,
}

/// What a trial came to; smaller losses are better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// Nothing is known yet.
    Running,
    /// Stopped for good or for now after this epoch.
    Reached {
        epoch: u32,
        loss: f64,
    },
    Finished {
        loss: f64,
    },
}

/// The number of first trials of a TPE search that are drawn at random, spread out evenly.
pub const STARTUP: usize = 10;

/// How many times a point is drawn anew when it has been tried before: in a small space everything may have been.
const REDRAWS: u64 = 100;

/// The points that are known before any result: all of a random search, the first ones of TPE.
pub fn known_points(space: &Space) -> Vec<Sample> {
    match space.sampler {
        Sampler::Random => random::points(space, space.trials, None),
        Sampler::Tpe => random::points(space, space.trials.min(STARTUP), Some(STARTUP)),
    }
}

/// The next point, number `history.len()`; `None` when the space has no other.
pub fn suggest(space: &Space, history: &[Observation]) -> Option<Sample> {
    let new = |sample: &Sample| history.iter().all(|earlier| earlier.sample != *sample);
    let trial = history.len() as u64;
    let told = history.iter().filter(|earlier| earlier.outcome != Outcome::Running).count();
    let picked = (space.sampler == Sampler::Tpe && told >= STARTUP).then(|| tpe::suggest(space, history));
    // A point that was tried before would teach nothing: its run is the same run.
    picked.filter(new).or_else(|| (0..REDRAWS).map(|again| random::draw(space, trial, again)).find(new))
}
