//! What queries give.

use super::Status;
use crate::event::{Origin, Split, Values};

/// A sweep and how far it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    pub name: String,
    /// Where its experiment file lay, and the file's text.
    pub path: String,
    pub file: String,
    /// Seconds since the Unix epoch: first and last planned.
    pub created_at: f64,
    pub updated_at: f64,
    /// Distinct runs, and how many of them have finished and failed.
    pub runs: usize,
    pub finished: usize,
    pub failed: usize,
}

/// An experiment of a sweep: its name and its resolved specification as TOML, before the sweep's axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    pub name: String,
    pub spec: String,
}

/// One training run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub id: String,
    pub seed: u64,
    pub fold: Option<u32>,
    pub status: Status,
    /// Whether `runner pause` left it out.
    pub held: bool,
    /// The resolved specification as TOML.
    pub spec: String,
    /// Fingerprint of the data.
    pub data: String,
    /// Attempts started so far.
    pub attempts: u32,
    /// Of the last attempt.
    pub device: Option<String>,
    pub threads: Option<u32>,
    pub parameters: Option<u64>,
    /// Epochs planned, and steps of each.
    pub epochs: Option<u32>,
    pub steps_per_epoch: Option<u64>,
    /// Epochs finished.
    pub epoch: u32,
    /// The selected epoch; final once the run has finished.
    pub best_epoch: Option<u32>,
    /// Seconds since the Unix epoch.
    pub started_at: Option<f64>,
    pub finished_at: Option<f64>,
    /// Time spent in all attempts together.
    pub seconds: f64,
    /// Why the last attempt ended early, and its message.
    pub cause: Option<String>,
    pub error: Option<String>,
    /// Values at the selected epoch; empty until the run has finished.
    pub summary: Values,
}

/// A run in its place in a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepRun {
    pub experiment: String,
    /// What the axes set; empty without axes.
    pub point: String,
    pub run: Run,
}

/// One try at a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub attempt: u32,
    pub device: String,
    pub threads: u32,
    /// Finished epochs it began with.
    pub epoch: u32,
    pub started_at: f64,
    /// Its last sign of life.
    pub seen_at: f64,
    /// `finished`, `paused`, or the cause it ended by; `None` while running or when it vanished.
    pub outcome: Option<String>,
    pub message: Option<String>,
    /// What it was made with; `None` where an older program did not say.
    pub origin: Option<Origin>,
}

/// Where a run stands, and how far its journal is in the store, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub status: Status,
    /// Epochs finished.
    pub epoch: u32,
    /// Why its last attempt ended early.
    pub error: Option<String>,
    pub journal_offset: u64,
}

/// The values of one epoch of one split.
#[derive(Clone, Debug, PartialEq)]
pub struct Epoch {
    pub epoch: u32,
    pub split: Split,
    pub values: Values,
}

/// What a user should know about a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Warning {
    pub run: String,
    pub message: String,
}

/// A place a run serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Serves {
    pub sweep: String,
    pub experiment: String,
    pub point: String,
}
