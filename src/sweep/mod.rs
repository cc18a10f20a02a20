//! A specification becomes runs: axes, expansion, run identity.

mod director;
mod identity;
mod outlook;
mod race;
mod rungs;
pub mod search;
mod trial;

use crate::{
    error::Result,
    spec::{ExperimentFile, RunSpec},
};
pub use director::{Director, Order, Seen};
pub use identity::identity;
pub use outlook::{outlook, twins};
pub use race::Loss;
pub use trial::{Decided, Fingerprint, is_adaptive};

/// One training run of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRun {
    /// Hash of the resolved specification, the data fingerprint and the seed; 16 hex digits.
    pub id: String,
    /// The experiment, e.g. `baseline`.
    pub experiment: String,
    /// What the sweep's axes set for this run, in order: dotted path and value, e.g. `("optimizer.adam.lr", "0.005")`.
    /// Empty where there is no axis.
    pub point: Vec<(String, String)>,
    pub seed: u64,
    pub spec: RunSpec,
}

impl PlannedRun {
    /// The fold it holds out; `None` without a cross-validation.
    pub fn fold(&self) -> Option<u32> {
        self.spec.fold.as_ref().map(|fold| fold.index)
    }
}

/// Every run of a file that is known before any result, in order: experiments as written, then points, folds and seeds. Runs
/// with one identity appear once for each experiment and point they serve. `fingerprint` is the data set's.
pub fn plan(file: &ExperimentFile, fingerprint: &Fingerprint) -> Result<Vec<PlannedRun>> {
    plan_with(file, fingerprint, &[])
}

/// The same with the points that searches decided on in earlier commands.
pub fn plan_with(file: &ExperimentFile, fingerprint: &Fingerprint, decided: &[Decided]) -> Result<Vec<PlannedRun>> {
    let trials = trial::Planner::new(file, fingerprint).known(decided)?;
    Ok(trials.iter().flat_map(|trial| &trial.runs).map(|run| (**run).clone()).collect())
}
