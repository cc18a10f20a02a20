//! Between the coordinator and the director of a sweep whose results decide what runs next: orders become tasks, and what
//! was decided is written into the store.

use super::{coordinator::Task, journal, label, new_run, run_folders, space::Desk};
use crate::{
    error::{Error, Result},
    event::{Event, Split},
    spec::{ExperimentFile, Sample},
    store::{Status, Store, StoredLoss, StoredTrial},
    sweep::{Decided, Director, Fingerprint, Loss, Order, PlannedRun, Seen},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// Steers one sweep.
pub struct Steering<'a> {
    director: Director<'a>,
    fingerprint: &'a Fingerprint<'a>,
    sweep: String,
    /// Where the folders of new runs go.
    runs: PathBuf,
    folders: BTreeMap<String, PathBuf>,
    /// Runs the store knows of as this sweep's.
    known: BTreeSet<String>,
    /// What the store has of the race.
    losses: Option<Vec<StoredLoss>>,
    /// Runs the store has as pruned.
    pruned: BTreeSet<String>,
}

impl<'a> Steering<'a> {
    /// `plan` is what the store has of the sweep. Everything that was journalled so far is taken into account.
    pub fn new(
        store: &mut Store,
        file: &'a ExperimentFile,
        plan: &[PlannedRun],
        fingerprint: &'a Fingerprint<'a>,
        out: &Path,
    ) -> Result<Self> {
        let director = Director::new(file, fingerprint, &decided(store, &file.name)?)?;
        let runs = out.join(&file.name).join("runs");
        let known = plan.iter().map(|run| run.id.clone()).collect();
        let mut steering = Self {
            director,
            fingerprint,
            sweep: file.name.clone(),
            runs,
            folders: run_folders(out),
            known,
            losses: None,
            pruned: BTreeSet::new(),
        };
        let all: Vec<_> = steering.director.runs().cloned().collect();
        all.iter().try_for_each(|run| steering.recall(store, run))?;
        Ok(steering)
    }

    /// The next tasks, at most `free`.
    pub fn next(&mut self, desk: &mut Desk, free: usize) -> Result<Vec<Task>> {
        let mut tasks = Vec::new();
        while tasks.len() < free {
            let orders = self.director.next(free - tasks.len())?;
            self.note(desk)?;
            if orders.is_empty() {
                break;
            }
            for order in orders {
                tasks.extend(self.task(desk, order)?);
            }
        }
        Ok(tasks)
    }

    /// Takes a journalled event into account.
    pub fn saw(&mut self, run: &str, event: &Event) {
        self.director.saw(run, event);
    }

    /// Takes into account that a run was given up.
    pub fn failed(&mut self, run: &str) {
        self.director.failed(run);
    }

    /// Runs that were given up on.
    pub fn pruned(&self) -> usize {
        self.director.pruned().len()
    }

    /// Writes down what was decided.
    fn note(&mut self, desk: &mut Desk) -> Result<()> {
        let trial = |decided: Decided| {
            let sample = serde_json::to_string(&decided.sample).map_err(Error::bug)?;
            Ok(StoredTrial { experiment: decided.experiment, search: decided.search, sample })
        };
        let trials: Vec<StoredTrial> = self.director.decided().into_iter().map(trial).collect::<Result<_>>()?;
        if !trials.is_empty() {
            desk.write(|store| store.add_trials(&self.sweep, &trials))?;
        }
        let losses: Vec<StoredLoss> = self.director.losses().iter().map(stored).collect();
        // Until the race has been gone through again, what an earlier command wrote stands.
        if self.losses.as_ref().map_or(!losses.is_empty(), |known| *known != losses) {
            desk.write(|store| store.set_losses(&self.sweep, &losses))?;
            self.losses = Some(losses);
        }
        for run in self.director.pruned() {
            if self.pruned.insert(run.clone()) {
                desk.write(|store| store.prune(&run))?;
            }
        }
        Ok(())
    }

    /// The task of an order; `None` where an earlier command has done it already.
    fn task(&mut self, desk: &mut Desk, order: Order) -> Result<Option<Task>> {
        let run = &order.run;
        if self.known.insert(run.id.clone()) {
            let new = [new_run(run, self.fingerprint)?];
            desk.write(|store| store.add_runs(&self.sweep, &new))?;
            desk.write(|store| self.recall(store, run))?;
            // The order stands where the store knew nothing of the run; else it is given again, for what is left.
            if desk.store.status(&run.id)? != Some(Status::Pending) || desk.store.journal_offset(&run.id)? > 0 {
                return Ok(None);
            }
            self.director.begun(&run.id);
        }
        self.pruned.remove(&run.id);
        let dir = self.folder(&run.id);
        let attempts = journal::attempts(&dir)?;
        let mut task = Task::new(run.clone(), dir, desk.store.journal_offset(&run.id)?, attempts);
        task.until = order.until;
        Ok(Some(task))
    }

    fn folder(&self, run: &str) -> PathBuf {
        self.folders.get(run).cloned().unwrap_or_else(|| self.runs.join(run))
    }

    /// Tells the director what store and journal have of a run; one that failed is tried again.
    fn recall(&mut self, store: &mut Store, run: &PlannedRun) -> Result<()> {
        let Some(status) = store.status(&run.id)? else { return Ok(()) };
        if status != Status::Finished {
            super::catch_up(store, &run.id, &self.folder(&run.id))?;
        }
        let whole = |outcome: &str| matches!(outcome, "paused" | "finished");
        let broken = store.attempts(&run.id)?.pop().is_some_and(|last| !last.outcome.is_some_and(|how| whole(&how)));
        self.director.recall(&run.id, Seen { pruned: status == Status::Pruned, broken, ..Seen::default() });
        let metric = &run.spec.select.metric;
        for (epoch, value) in store.curve(&run.id, Split::Val, metric)? {
            let values = [(metric.clone(), value)].into();
            self.director.saw(&run.id, &Event::Epoch { epoch, split: Split::Val, values });
        }
        match store.run(&run.id)?.filter(|found| found.status == Status::Finished) {
            Some(found) => {
                let best_epoch = found.best_epoch.unwrap_or(0);
                self.director.saw(&run.id, &Event::Finished { best_epoch, summary: found.summary });
            }
            None if matches!(status, Status::Running | Status::Failed) => store.reset(&run.id)?,
            None => {}
        }
        Ok(())
    }
}

/// A loss as the store takes it.
fn stored(loss: &Loss) -> StoredLoss {
    StoredLoss {
        experiment: loss.experiment.clone(),
        point: label(&loss.point),
        leader: loss.leader.clone(),
        leader_point: label(&loss.leader_point),
        seeds: loss.seeds as u64,
        behind: loss.behind.difference,
        interval: loss.behind.interval,
        p: loss.p,
        level: loss.level,
    }
}

/// The points that a sweep's searches decided on in earlier commands.
pub fn decided(store: &Store, sweep: &str) -> Result<Vec<Decided>> {
    let read = |trial: StoredTrial| {
        let sample: Sample = serde_json::from_str(&trial.sample).ok()?;
        Some(Decided { experiment: trial.experiment, search: trial.search, sample })
    };
    Ok(store.trials(sweep)?.into_iter().filter_map(read).collect())
}
