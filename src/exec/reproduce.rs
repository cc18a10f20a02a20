//! A finished run again, and whether its numbers come out the same.

use super::{
    cache_path, devices, provenance,
    signals::Interrupts,
    solo::{Numbers, Solo, Then},
    store_path,
};
use crate::{
    data,
    error::{Cause, Error, Result},
    event::{Event, Origin, Split},
    spec::{RunSpec, RunsPerGpu},
    store::{Run, Status, Store},
};
use std::{fmt, path::Path};

/// What came of a reproduction.
#[derive(Clone, Debug, PartialEq)]
pub struct Reproduced {
    pub run: String,
    pub numbers: usize,
    /// The first number that came out otherwise: what it is, then and now.
    pub difference: Option<String>,
    /// What else is not as it was: program, device, ..
    pub changed: Vec<String>,
}

/// Does a finished run again in a folder that is gone afterwards, on the device it ran on unless another one is named, and
/// compares every number but times. `tell` hears of each epoch.
///
/// # Errors
/// A run that has not finished, data that is no longer the same, and what goes wrong in the run.
pub fn reproduce(out: &Path, run: &str, device: Option<&str>, tell: &mut dyn FnMut(&str)) -> Result<Reproduced> {
    let store = Store::read(&store_path(out))?;
    let run = store.find_run(run)?;
    let spec = checked(out, &run)?;
    let then = store.attempts(&run.id)?.into_iter().filter_map(|attempt| attempt.origin).next_back();
    let devices = devices::resolve(&[device.map_or_else(|| run.device.clone().unwrap_or_default(), String::from)])?;
    let place = devices::places(&devices, Some(1), RunsPerGpu::default(), 1, devices::cores()).remove(0);
    let changed = changed(out, &run, then.as_ref(), &place.device)?;

    let interrupts = Interrupts::listen()?;
    let mut solo = Solo::new(out, &spec, run.seed, place)?;
    solo.micro_batch = then.and_then(|origin| origin.micro_batch);
    let failure = solo.attempt(&interrupts, &mut |record| {
        if let Event::Epoch { epoch, split: Split::Val, .. } = &record.event {
            tell(&format!("epoch {epoch} of {}", spec.epochs));
        }
        Then::GoOn
    })?;
    if let Some(failure) = failure {
        return Err(Error::new(failure.cause, format!("run {} again: {}", run.id, failure.message)));
    }
    let before = stored(&store, &run)?;
    let difference = before.first_difference(&solo.numbers()?.without_steps());
    Ok(Reproduced { run: run.id, numbers: before.len(), difference, changed })
}

/// The specification of a run that can be done again.
fn checked(out: &Path, run: &Run) -> Result<RunSpec> {
    if run.status != Status::Finished {
        return Err(Error::user(format!("run {} is {}; only a finished run can be reproduced", run.id, run.status)));
    }
    let unreadable = |error| Error::user(format!("the specification of run {} is of another version: {error}", run.id));
    let spec: RunSpec = toml::from_str(&run.spec).map_err(unreadable)?;
    let data = data::fingerprint(&spec.data, &cache_path(out))?;
    match data == run.data {
        true => Ok(spec),
        false => Err(Error::new(
            Cause::RunsFailed,
            format!("run {} cannot be reproduced: its data has changed ({} then, {data} now)", run.id, run.data),
        )),
    }
}

/// What is not as it was.
fn changed(out: &Path, run: &Run, then: Option<&Origin>, device: &str) -> Result<Vec<String>> {
    let Some(then) = then else { return Ok(vec!["what the run was made with was not recorded".into()]) };
    let now = provenance::origin(out)?;
    let then_device = run.device.clone().unwrap_or_default();
    let pairs = [
        ("the program's version", Some(then.version.clone()), Some(now.version)),
        ("the program's file", then.binary.clone(), now.binary),
        ("the device", Some(then_device), Some(device.into())),
        ("the hardware", Some(then.hardware.clone()), Some(provenance::hardware(device))),
        ("the machine", Some(then.host.clone()), Some(now.host)),
    ];
    let differs = pairs.into_iter().filter(|(_, then, now)| then != now);
    let shown =
        |value: Option<String>| value.map_or("unknown".into(), |text| text.chars().take(60).collect::<String>());
    Ok(differs.map(|(what, then, now)| format!("{what}: {} then, {} now", shown(then), shown(now))).collect())
}

/// The numbers the store has of a run.
fn stored(store: &Store, run: &Run) -> Result<Numbers> {
    let mut numbers = Numbers::default();
    for epoch in store.epochs(&run.id)? {
        numbers.epoch(epoch.epoch, epoch.split, epoch.values);
    }
    numbers.finish(run.best_epoch.unwrap_or(0), run.summary.clone());
    for split in [Split::Val, Split::Test] {
        numbers.predictions(split, store.predictions(&run.id, split)?);
    }
    Ok(numbers)
}

impl fmt::Display for Reproduced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.difference {
            None => writeln!(f, "run {}: all {} numbers are the same, bit for bit", self.run, self.numbers)?,
            Some(difference) => {
                writeln!(f, "run {}: the numbers differ; the first one (then and now): {difference}", self.run)?;
            }
        }
        self.changed.iter().try_for_each(|line| writeln!(f, "not as it was: {line}"))
    }
}
