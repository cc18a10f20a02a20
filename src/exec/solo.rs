//! One run outside of any sweep, in a folder that is gone afterwards: to do it again, to prove that it resumes, to measure
//! it.

use super::{
    devices::Place,
    journal, memory,
    protocol::{Assignment, Failure, Notice},
    signals::Interrupts,
    slot::{Message, Worker, cause_of_death},
};
use crate::{
    data,
    error::{Cause, Context, Error, Result},
    event::{Event, Origin, Prediction, Record, Split, Values},
    spec::RunSpec,
    sweep,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

/// How the folder is called until it is gone.
pub const PREFIX: &str = ".scratch-";

/// How long a worker may take to leave.
pub const GRACE: Duration = Duration::from_secs(20);

/// What is asked of an attempt after a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    GoOn,
    /// Write a checkpoint and leave.
    Stop,
    Kill,
}

/// A run of its own.
pub struct Solo<'a> {
    pub spec: &'a RunSpec,
    pub seed: u64,
    pub cache: PathBuf,
    pub place: Place,
    pub micro_batch: Option<usize>,
    /// Most memory an attempt had resident, in bytes; 0 where the system does not say.
    pub peak: u64,
    /// Most bytes of its GPU's memory that an attempt held, where that was told.
    pub held: Option<u64>,
    /// What its worker checks its images against.
    id: String,
    /// Removed when dropped. It lies as a sweep of the results folder would, so that teachers are found.
    scratch: tempfile::TempDir,
    attempts: u32,
}

impl<'a> Solo<'a> {
    /// Of a specification and a seed, beside the sweeps of a results folder.
    pub fn new(out: &Path, spec: &'a RunSpec, seed: u64, place: Place) -> Result<Self> {
        let cache = super::cache_path(out);
        std::fs::create_dir_all(&cache).context(|| cache.display().to_string())?;
        let id = sweep::identity(spec, &data::fingerprint(&spec.data, &cache)?, seed)?;
        let scratch = tempfile::Builder::new().prefix(PREFIX).tempdir_in(out);
        let scratch = scratch.context(|| format!("cannot write to the results folder `{}`", out.display()))?;
        let solo = Self { spec, seed, cache, place, micro_batch: None, peak: 0, held: None, id, scratch, attempts: 0 };
        std::fs::create_dir_all(solo.dir()).context(|| solo.dir().display().to_string())?;
        Ok(solo)
    }

    fn dir(&self) -> PathBuf {
        self.scratch.path().join("runs/scratch")
    }

    /// One attempt, from the last checkpoint on; `watch` sees every record and says what to do next. `None` when the run is
    /// complete.
    pub fn attempt(
        &mut self,
        interrupts: &Interrupts,
        watch: &mut dyn FnMut(&Record) -> Then,
    ) -> Result<Option<Failure>> {
        self.attempts += 1;
        let (dir, mut offset) = (self.dir(), journal::read(&self.dir(), 0)?.offset);
        let (outbox, inbox) = mpsc::channel();
        let mut worker = Worker::start(&self.place, &dir, outbox, &[])?;
        worker.run(self.assignment())?;
        loop {
            if interrupts.count() > 0 {
                worker.kill();
                return Err(Error::new(Cause::Interrupted, "stopped"));
            }
            let Ok(message) = inbox.recv_timeout(Duration::from_millis(50)) else { continue };
            self.peak = self.peak.max(memory::peak(worker.id()).unwrap_or(0));
            if let Some(Notice::Held(bytes) | Notice::HeldSoFar(bytes)) = message.notice {
                self.held = self.held.max(Some(bytes));
            }
            let tail = journal::read(&dir, offset)?;
            offset = tail.offset;
            for record in &tail.records {
                match watch(record) {
                    Then::GoOn => {}
                    Then::Stop => worker.stop(),
                    Then::Kill => worker.kill(),
                }
            }
            if let Some(end) = ended(message, &mut worker, &dir) {
                worker.wait(GRACE);
                return Ok(end);
            }
        }
    }

    fn assignment(&self) -> Assignment {
        Assignment {
            run: self.id.clone(),
            dir: self.dir(),
            cache: self.cache.clone(),
            spec: self.spec.clone(),
            seed: self.seed,
            device: self.place.device.clone(),
            until: None,
            threads: self.place.threads,
            attempt: self.attempts,
            micro_batch: self.micro_batch,
            sharers: 1,
            origin: Origin::default(),
        }
    }

    /// Every number the run has come to.
    pub fn numbers(&self) -> Result<Numbers> {
        let mut numbers = Numbers::default();
        journal::read(&self.dir(), 0)?.records.into_iter().for_each(|record| numbers.take(record.event));
        Ok(numbers)
    }
}

/// How an attempt ended, where a message says that it has: with what failure, or none.
fn ended(message: Message, worker: &mut Worker, dir: &Path) -> Option<Option<Failure>> {
    match message.notice {
        Some(Notice::Grew | Notice::Held(_) | Notice::HeldSoFar(_) | Notice::Preparing(_)) => None,
        Some(Notice::Ended { failure, .. }) => Some(failure),
        None => {
            let (cause, message) = cause_of_death(worker.wait(GRACE), dir, false);
            Some(Some(Failure { cause, message }))
        }
    }
}

/// The numbers of a run by what they are: `epoch 2, val auc`. Times are none of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers(pub BTreeMap<(u32, Option<u64>, String), f64>);

impl Numbers {
    fn take(&mut self, event: Event) {
        match event {
            Event::Step { epoch, step, values } => self.values(epoch, Some(step), "train", values),
            Event::Epoch { epoch, split, values } => self.values(epoch, None, split.as_str(), values),
            Event::Finished { best_epoch, summary } => self.finish(best_epoch, summary),
            Event::Predictions { split, rows, .. } => self.predictions(split, rows),
            _ => {}
        }
    }

    /// Takes values of one moment.
    pub fn values(&mut self, epoch: u32, step: Option<u64>, what: &str, values: Values) {
        let counts = values.into_iter().filter(|(name, _)| !["seconds", "images_per_second"].contains(&name.as_str()));
        self.0.extend(counts.map(|(name, value)| ((epoch, step, format!("{what} {name}")), value)));
    }

    /// Takes an epoch's values of a split.
    pub fn epoch(&mut self, epoch: u32, split: Split, values: Values) {
        self.values(epoch, None, split.as_str(), values);
    }

    /// Takes what a run came to.
    pub fn finish(&mut self, best_epoch: u32, summary: Values) {
        self.0.insert((u32::MAX, None, "selected epoch".into()), f64::from(best_epoch));
        self.values(u32::MAX, None, "selected", summary);
    }

    /// Takes the scores of a split.
    pub fn predictions(&mut self, split: Split, rows: Vec<Prediction>) {
        for row in rows {
            let scores = row.scores.iter().enumerate();
            let named = scores.map(|(class, score)| (format!("{} class {class}", row.image), f64::from(*score)));
            self.values(u32::MAX, None, &format!("{} score of", split.as_str()), named.collect());
        }
    }

    /// Numbers of steps alone differ with `log_every`, which is no part of a run.
    pub fn without_steps(mut self) -> Self {
        self.0.retain(|(_, step, _), _| step.is_none());
        self
    }

    /// The first number that is not the same bit for bit: what it is, here and there.
    pub fn first_difference(&self, other: &Self) -> Option<String> {
        let keys: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let bits = |value: Option<&f64>| value.map(|value| value.to_bits());
        let differs = |key: &&&(u32, Option<u64>, String)| bits(self.0.get(**key)) != bits(other.0.get(**key));
        let key = keys.iter().find(differs)?;
        let shown = |value: Option<&f64>| value.map_or("nothing".into(), |value| format!("{value:?}"));
        Some(format!("{}: {} and {}", place(key), shown(self.0.get(*key)), shown(other.0.get(*key))))
    }

    /// How many numbers were compared.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn place((epoch, step, what): &(u32, Option<u64>, String)) -> String {
    match (epoch, step) {
        (&u32::MAX, _) => what.clone(),
        (epoch, Some(step)) => format!("epoch {epoch}, step {step}, {what}"),
        (epoch, None) => format!("epoch {epoch}, {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_told_in_the_order_of_training() {
        let mut one = Numbers::default();
        one.epoch(1, Split::Val, [("auc".to_string(), 0.5), ("seconds".to_string(), 3.0)].into());
        one.epoch(2, Split::Val, [("auc".to_string(), 0.75)].into());
        let mut other = one.clone();
        assert_eq!((one.len(), one.first_difference(&other)), (2, None));
        other.epoch(2, Split::Val, [("auc".to_string(), 0.75f64.next_up())].into());
        let said = one.first_difference(&other).unwrap();
        assert_eq!(said, "epoch 2, val auc: 0.75 and 0.7500000000000001");
        other.epoch(1, Split::Val, [("loss".to_string(), 1.0)].into());
        assert_eq!(one.first_difference(&other).unwrap(), "epoch 1, val loss: nothing and 1.0");
    }
}
