//! How much of their training two runs have in common: epochs in which both do the same, bit for bit.

use super::{batches, rates::rates};
use crate::{
    data::Dataset,
    error::{Error, Result},
    schedule::{Clock, ScheduleSpec},
    spec::{Keep, RunSpec},
};

/// A specification without what may differ between runs that begin alike: equal text, and two runs may share a prefix.
pub fn trunk(spec: &RunSpec) -> Result<String> {
    let epochs = if spec.progressive.is_some() { spec.epochs } else { 1 };
    let scheduler = ScheduleSpec::constant(Default::default());
    let trunk = RunSpec { epochs, scheduler, swa: None, keep: Keep::Best, ..spec.clone() };
    serde_json::to_string(&trunk).map_err(Error::bug)
}

/// Epochs from the first on that two runs of one seed, with one trunk, have in common. At most one less than the shorter one
/// has: the last epoch is a run's own.
pub fn common_epochs(a: &RunSpec, b: &RunSpec, data: &Dataset) -> u32 {
    let mut epochs = a.epochs.min(b.epochs).saturating_sub(1);
    if a.swa != b.swa {
        let starts = [a, b].into_iter().filter_map(|spec| spec.swa.as_ref()).map(|swa| swa.start);
        epochs = starts.fold(epochs, |epochs, start| epochs.min(start.saturating_sub(1)));
    }
    let by_history = |spec: &RunSpec| matches!(spec.scheduler, ScheduleSpec::plateau(_));
    if a.scheduler != b.scheduler && (by_history(a) || by_history(b)) {
        return 0;
    }
    let steps_per_epoch = batches::steps_per_epoch(a, &data.train);
    let rates_at = |spec: &RunSpec, step: u64| {
        let total_steps = steps_per_epoch * u64::from(spec.epochs);
        let (lr, momentum) = rates(spec, &Clock { step, steps_per_epoch, total_steps, history: &[] });
        (lr.to_bits(), momentum.map(f64::to_bits))
    };
    let differs = |step: &u64| rates_at(a, *step) != rates_at(b, *step);
    let first = (0..u64::from(epochs) * steps_per_epoch).find(differs);
    first.map_or(epochs, |step| (step / steps_per_epoch.max(1)) as u32)
}
