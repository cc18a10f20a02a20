//! A specification becomes runs: axes, expansion, run identity.

mod identity;

use crate::{
    error::Result,
    spec::{ExperimentFile, RunSpec},
};
pub use identity::identity;
use std::collections::BTreeSet;

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

/// Every run of a file, in order: experiments as written, then points, folds and seeds. Runs with one identity appear once for
/// each experiment and point they serve. `fingerprint` is the data set's.
pub fn plan(file: &ExperimentFile, fingerprint: &dyn Fn(&RunSpec) -> Result<String>) -> Result<Vec<PlannedRun>> {
    let mut runs = Vec::new();
    let mut seen = BTreeSet::new();
    for experiment in &file.experiments {
        for point in &experiment.points {
            let data = fingerprint(&point.spec)?;
            for &seed in &point.seeds {
                if !seen.insert((&experiment.name, &point.assignments, &point.spec.fold, seed)) {
                    continue;
                }
                runs.push(PlannedRun {
                    id: identity(&point.spec, &data, seed)?,
                    experiment: experiment.name.clone(),
                    point: point.assignments.clone(),
                    seed,
                    spec: point.spec.clone(),
                });
            }
        }
    }
    Ok(runs)
}
