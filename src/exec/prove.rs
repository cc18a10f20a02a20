//! The proof that a recipe resumes: one short run is broken off at random moments and its numbers are compared with those of
//! the same run left alone.

use super::{
    devices,
    protocol::Failure,
    signals::Interrupts,
    solo::{Solo, Then},
};
use crate::{
    error::{Cause, Error, Result},
    event::{Event, Record},
    spec::{RunSpec, RunsPerGpu},
    sweep::PlannedRun,
};
use std::{
    hash::{BuildHasher, RandomState},
    path::Path,
};

/// The copy of a run that is proved with is no longer than this.
const EPOCHS: u32 = 3;
const IMAGES_PER_CLASS: usize = 200;

/// Proves that the plan's shortest run resumes, and says what was done.
///
/// # Errors
/// That it does not, with the first number that differs; what goes wrong in the run.
pub fn prove(out: &Path, plan: &[PlannedRun], devices: &[String], tell: &mut dyn FnMut(&str)) -> Result<String> {
    let cost = |run: &&PlannedRun| u64::from(run.spec.epochs) * (run.spec.input.size * run.spec.input.size) as u64;
    let run = plan.iter().min_by_key(cost).ok_or_else(|| Error::user("the plan has no run to prove anything with"))?;
    let spec = shortened(&run.spec);
    std::fs::create_dir_all(super::cache_path(out))?;
    let interrupts = Interrupts::listen()?;
    let devices = devices::resolve(devices)?;
    let place = || devices::places(&devices, Some(1), RunsPerGpu::default(), 1, devices::cores()).remove(0);

    tell("proving that runs resume: one short run, left alone");
    let mut whole = Solo::new(out, &spec, run.seed, place())?;
    let mut steps = 0;
    complete(whole.attempt(&interrupts, &mut |record| {
        steps += u64::from(matches!(record.event, Event::Step { .. }));
        Then::GoOn
    })?)?;
    let moments = Moments::random(steps);
    tell(&format!("the same run, {moments}"));
    let mut broken = Solo::new(out, &spec, run.seed, place())?;
    interrupt(&mut broken, &moments, &interrupts)?;

    let (whole, broken) = (whole.numbers()?, broken.numbers()?);
    let name = format!("{} seed {} (shortened to {} epochs, {steps} steps)", run.experiment, run.seed, spec.epochs);
    match whole.first_difference(&broken) {
        None => Ok(format!("resuming is proved: {name}, {moments}: all {} numbers are the same", whole.len())),
        Some(difference) => Err(Error::new(
            Cause::RunsFailed,
            format!("resuming changes the numbers: {name}, {moments}; the first one (whole and resumed): {difference}"),
        )),
    }
}

/// A copy of a run that is soon through and still does everything: averages begin, and every step is journalled.
fn shortened(spec: &RunSpec) -> RunSpec {
    let mut spec = spec.clone();
    spec.epochs = spec.epochs.min(EPOCHS);
    spec.log_every = 1;
    let epochs = spec.epochs;
    if let Some(swa) = &mut spec.swa {
        swa.start = swa.start.min(epochs.saturating_sub(1).max(1));
    }
    let subset = spec.subset.get_or_insert_default();
    let enough = IMAGES_PER_CLASS.max(2 * spec.batch_size * spec.accumulate);
    subset.per_class = Some(subset.per_class.map_or(enough, |given| given.min(enough)));
    spec
}

/// When a run is broken off: once by a request, which it answers with a checkpoint, once by a kill.
struct Moments {
    stop: u64,
    kill: u64,
}

impl Moments {
    /// Nothing predicts them.
    fn random(steps: u64) -> Self {
        let draw = |what: &str, limit: u64| RandomState::new().hash_one(what) % limit.max(1);
        let stop = 1 + draw("stop", steps.saturating_sub(2));
        Self { stop, kill: stop + 1 + draw("kill", steps.saturating_sub(stop + 1)) }
    }
}

impl std::fmt::Display for Moments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stopped after step {} and killed after step {}", self.stop, self.kill)
    }
}

fn interrupt(solo: &mut Solo, moments: &Moments, interrupts: &Interrupts) -> Result<()> {
    let after = |record: &Record, moment: u64, then: Then| match record.event {
        Event::Step { step, .. } if step >= moment => then,
        _ => Then::GoOn,
    };
    let stopped = solo.attempt(interrupts, &mut |record| after(record, moments.stop, Then::Stop))?;
    broken_off(stopped, &[Cause::Interrupted])?;
    let killed = solo.attempt(interrupts, &mut |record| after(record, moments.kill, Then::Kill))?;
    broken_off(killed, &[Cause::Environment])?;
    complete(solo.attempt(interrupts, &mut |_| Then::GoOn)?)
}

/// A run that was faster than its interruption has proved what there was to prove of it.
fn broken_off(failure: Option<Failure>, expected: &[Cause]) -> Result<()> {
    match failure {
        Some(failure) if !expected.contains(&failure.cause) => complete(Some(failure)),
        _ => Ok(()),
    }
}

fn complete(failure: Option<Failure>) -> Result<()> {
    match failure {
        None => Ok(()),
        Some(failure) => Err(Error::new(failure.cause, format!("the run to prove with failed: {}", failure.message))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_lie_within_the_run() {
        for steps in 3..60 {
            let Moments { stop, kill } = Moments::random(steps);
            assert!(0 < stop && stop < kill && kill < steps, "{stop} {kill} of {steps}");
        }
    }
}
