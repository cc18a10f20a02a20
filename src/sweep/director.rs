//! Decides what a sweep runs next, from what its runs have come to: further points of a search, further seeds of the best.
//!
//! The coordinator asks when a slot is free and nothing waits for it, and tells every event. What is decided follows from
//! the trials and what is known of their runs alone, so that a sweep that was stopped goes on as if it had not been.

use super::{
    PlannedRun,
    race::Loss,
    search::{self, Observation, Outcome},
    trial::{Decided, Fingerprint, Planner, Trial},
};
use crate::{
    error::{Cause, Result},
    event::{Event, Split},
    prune::Pruner,
    spec::{ExperimentFile, Sample, Select},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// A run, and how far it goes now.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub run: Rc<PlannedRun>,
    /// Pauses after this epoch; `None` goes to the end.
    pub until: Option<u32>,
}

/// What is known of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The selected metric by evaluated epoch, as a loss: smaller is better.
    pub curve: BTreeMap<u32, f64>,
    /// The same at the selected epoch, once it has finished.
    pub finished: Option<f64>,
    pub failed: bool,
    /// It was given up on, in favour of others.
    pub pruned: bool,
    /// It has been ordered, and its attempt is not over.
    pub running: bool,
    /// Its last attempt broke off, so that the last epoch may be in no checkpoint: it does not count until the next one begins.
    pub broken: bool,
}

/// The director of one sweep.
pub struct Director<'a> {
    pub(super) file: &'a ExperimentFile,
    pub(super) planner: Planner<'a>,
    pub(super) trials: Vec<Trial>,
    runs: BTreeMap<String, Rc<PlannedRun>>,
    pub(super) seen: BTreeMap<String, Seen>,
    /// Trials that pruning has given up on.
    pub(super) dropped: BTreeSet<usize>,
    /// Trials that have left the race.
    pub(super) losses: Vec<Loss>,
    /// Points decided since they were last asked for.
    news: Vec<Decided>,
    /// Searches that have no further point.
    exhausted: Vec<(usize, usize)>,
}

impl Seen {
    /// The last evaluated epoch.
    pub fn reached(&self) -> u32 {
        self.curve.keys().rev().nth(usize::from(self.broken)).copied().unwrap_or(0)
    }

    /// The best loss up to an epoch.
    pub fn best(&self, epoch: u32) -> Option<f64> {
        self.curve.range(..=epoch).map(|(_, loss)| *loss).reduce(f64::min)
    }

    /// Whether its attempt should be ordered: not at work, not over.
    pub(super) fn open(&self) -> bool {
        !self.running && self.finished.is_none() && !self.failed
    }
}

/// Points of a search that make no valid experiment (values that may each stand there, but not together) before the search
/// gives up; each is replaced by one drawn at random.
const UNFIT: u64 = 20;

/// A metric's value as a loss, the worst one where there is none.
fn loss(select: &Select, value: f64) -> f64 {
    let loss = select.loss(value);
    if loss.is_nan() { f64::INFINITY } else { loss }
}

impl<'a> Director<'a> {
    /// `decided` are the points that searches decided on in earlier commands.
    pub fn new(file: &'a ExperimentFile, fingerprint: &'a Fingerprint<'a>, decided: &[Decided]) -> Result<Self> {
        let mut planner = Planner::new(file, fingerprint);
        let trials = planner.known(decided)?;
        let (runs, seen, dropped, losses, news, exhausted) = Default::default();
        let mut director = Self { file, planner, trials, runs, seen, dropped, losses, news, exhausted };
        let all: Vec<Rc<PlannedRun>> = director.trials.iter().flat_map(Trial::planned).cloned().collect();
        all.into_iter().for_each(|run| director.enrol(run));
        Ok(director)
    }

    pub(super) fn enrol(&mut self, run: Rc<PlannedRun>) {
        self.seen.entry(run.id.clone()).or_default();
        self.runs.entry(run.id.clone()).or_insert(run);
    }

    /// Every run that may be ordered, as far as that is known.
    pub fn runs(&self) -> impl Iterator<Item = &Rc<PlannedRun>> {
        self.runs.values()
    }

    /// Tells what is in the store of a run.
    pub fn recall(&mut self, run: &str, seen: Seen) {
        self.seen.insert(run.to_string(), seen);
    }

    /// Tells what happened in a run.
    pub fn saw(&mut self, run: &str, event: &Event) {
        let (Some(planned), Some(seen)) = (self.runs.get(run), self.seen.get_mut(run)) else { return };
        let select = &planned.spec.select;
        match event {
            Event::Started { epoch, .. } => {
                (seen.running, seen.failed, seen.broken) = (true, false, false);
                seen.curve.retain(|known, _| known <= epoch);
            }
            Event::Epoch { epoch, split: Split::Val, values } => {
                let value = values.get(&select.metric).copied().unwrap_or(f64::NAN);
                seen.curve.insert(*epoch, loss(select, value));
            }
            Event::Paused { .. } => seen.running = false,
            Event::Finished { summary, .. } => {
                let value = summary.get(&select.metric).copied().unwrap_or(f64::NAN);
                (seen.running, seen.finished) = (false, Some(loss(select, value)));
            }
            _ => {}
        }
    }

    /// Tells that an attempt at a run begins.
    pub fn begun(&mut self, run: &str) {
        if let Some(seen) = self.seen.get_mut(run) {
            seen.running = true;
        }
    }

    /// Tells that a run has failed for good.
    pub fn failed(&mut self, run: &str) {
        if let Some(seen) = self.seen.get_mut(run) {
            (seen.running, seen.failed) = (false, true);
        }
    }

    /// Points that searches have decided on since the last call.
    pub fn decided(&mut self) -> Vec<Decided> {
        std::mem::take(&mut self.news)
    }

    /// What to run now, at most `free` runs; nothing while results are awaited or when all is done.
    pub fn next(&mut self, free: usize) -> Result<Vec<Order>> {
        let mut orders = Vec::new();
        if free == 0 {
            return Ok(orders);
        }
        if self.pruner().is_some_and(Pruner::continues_first) {
            self.judge();
        }
        self.continue_trials(free, &mut orders);
        self.search(free, &mut orders)?;
        if orders.len() < free {
            self.judge();
            self.continue_trials(free, &mut orders);
            self.confirm(free, &mut orders);
            self.race(free, &mut orders)?;
        }
        Ok(orders)
    }

    pub(super) fn pruner(&self) -> Option<&'a dyn Pruner> {
        self.file.sweep.pruning.as_ref().map(|spec| spec.as_dyn())
    }

    /// The runs that pruning has given up on, so far.
    pub fn pruned(&self) -> Vec<String> {
        let of = |dropped: bool| {
            let trials =
                self.trials.iter().enumerate().filter(move |(index, _)| self.dropped.contains(index) == dropped);
            trials.flat_map(|(_, trial)| trial.runs.iter().map(|run| &run.id))
        };
        let needed: BTreeSet<&String> = of(false).collect();
        let open = |id: &&String| !needed.contains(id) && self.seen.get(*id).is_some_and(Seen::open);
        of(true).filter(open).cloned().collect()
    }

    /// Orders a run, where it is to be ordered and there is room.
    pub(super) fn order(&mut self, run: &Rc<PlannedRun>, until: Option<u32>, free: usize, orders: &mut Vec<Order>) {
        let Some(seen) = self.seen.get_mut(&run.id) else { return };
        let open = seen.open() && until.is_none_or(|until| seen.reached() < until);
        if orders.len() < free && open {
            seen.running = true;
            orders.push(Order { run: run.clone(), until });
        }
    }

    fn continue_trials(&mut self, free: usize, orders: &mut Vec<Order>) {
        let mut all: Vec<usize> = (0..self.trials.len()).collect();
        if self.pruner().is_some_and(Pruner::continues_first) {
            all.sort_by_key(|index| std::cmp::Reverse(self.trials[*index].granted));
        }
        for index in all {
            let until = self.target(&self.trials[index]);
            for run in self.trials[index].runs.clone() {
                self.order(&run, until, free, orders);
            }
        }
    }

    /// Asks the searches for further points.
    fn search(&mut self, free: usize, orders: &mut Vec<Order>) -> Result<()> {
        for (experiment, block) in self.searches() {
            while orders.len() < free && self.suggest(experiment, block)? {
                let Some(trial) = self.trials.last() else { break };
                let (runs, until) = (trial.runs.clone(), self.target(trial));
                runs.iter().for_each(|run| self.order(run, until, free, orders));
            }
        }
        Ok(())
    }

    /// Searches that may have further points: experiment and block.
    pub(super) fn searches(&self) -> Vec<(usize, usize)> {
        let mut open = Vec::new();
        for (experiment, named) in self.file.experiments.iter().enumerate() {
            for (block, found) in self.file.sweep.blocks.iter().enumerate().filter(|(_, b)| b.is_for(&named.name)) {
                let Some(space) = &found.space else { continue };
                let tried = self.of(experiment, Some(block)).count();
                if tried < space.trials && !self.exhausted.contains(&(experiment, block)) {
                    open.push((experiment, block));
                }
            }
        }
        open
    }

    /// The trials of an experiment in a block.
    fn of(&self, experiment: usize, block: Option<usize>) -> impl Iterator<Item = &Trial> {
        self.trials.iter().filter(move |trial| (trial.experiment, trial.block) == (experiment, block))
    }

    /// Decides on one more point; false when there is none.
    fn suggest(&mut self, experiment: usize, block: usize) -> Result<bool> {
        let Some(space) = &self.file.sweep.blocks[block].space else { return Ok(false) };
        let history: Vec<Observation> =
            self.of(experiment, Some(block)).filter_map(|trial| self.observation(trial)).collect();
        let sample = if history.len() < space.trials { search::suggest(space, &history) } else { None };
        let Some(sample) = sample else {
            self.exhausted.push((experiment, block));
            return Ok(false);
        };
        let trial = history.len() as u64;
        for again in 0..UNFIT {
            let sample = if again == 0 { sample.clone() } else { search::random::draw(space, trial, UNFIT + again) };
            match self.adopt(experiment, block, sample) {
                Err(error) if error.cause == Cause::User && again + 1 < UNFIT => {}
                adopted => return adopted,
            }
        }
        Ok(false)
    }

    fn adopt(&mut self, experiment: usize, block: usize, sample: Sample) -> Result<bool> {
        let Some(trial) = self.planner.sampled(experiment, block, sample.clone())? else {
            self.exhausted.push((experiment, block));
            return Ok(false);
        };
        if let Some(space) = &self.file.sweep.blocks[block].space {
            let search = self.planner.search(experiment, space)?;
            self.news.push(Decided { experiment: self.file.experiments[experiment].name.clone(), search, sample });
        }
        trial.planned().cloned().for_each(|run| self.enrol(run));
        self.trials.push(trial);
        Ok(true)
    }

    fn observation(&self, trial: &Trial) -> Option<Observation> {
        let sample = trial.sample.clone()?;
        Some(Observation { sample, outcome: self.outcome(trial) })
    }

    /// What a trial has come to, over its runs; failed ones tell nothing unless all have failed.
    fn outcome(&self, trial: &Trial) -> Outcome {
        let seen: Vec<&Seen> = trial.runs.iter().filter_map(|run| self.seen.get(&run.id)).collect();
        let alive: Vec<&Seen> = seen.iter().copied().filter(|seen| !seen.failed).collect();
        let mean = |losses: Option<Vec<f64>>| losses.map(|losses| losses.iter().sum::<f64>() / losses.len() as f64);
        if alive.is_empty() {
            return Outcome::Finished { loss: f64::INFINITY };
        }
        if let Some(loss) = mean(alive.iter().map(|seen| seen.finished).collect()) {
            return Outcome::Finished { loss };
        }
        let epoch = alive.iter().map(|seen| seen.reached()).min().unwrap_or(0);
        match mean(alive.iter().map(|seen| seen.best(epoch)).collect()).filter(|_| epoch > 0) {
            Some(loss) if !alive.iter().any(|seen| seen.running) => Outcome::Reached { epoch, loss },
            _ => Outcome::Running,
        }
    }

    /// Gives the best trials of each experiment and block, once all of these are through, the other seeds.
    fn confirm(&mut self, free: usize, orders: &mut Vec<Order>) {
        for (experiment, block, count) in self.confirmed_blocks() {
            if self.is_open(experiment, block) {
                continue;
            }
            let loss = |trial: &Trial| match self.outcome(trial) {
                Outcome::Finished { loss } if trial.block == Some(block) && trial.experiment == experiment => {
                    Some(loss)
                }
                _ => None,
            };
            let all = self.trials.iter().enumerate().filter_map(|(index, trial)| Some((loss(trial)?, index)));
            let mut finished: Vec<(f64, usize)> = all.filter(|(loss, _)| loss.is_finite()).collect();
            finished.sort_by(|a, b| a.0.total_cmp(&b.0));
            for (_, index) in finished.into_iter().take(count) {
                for run in self.trials[index].rest.clone() {
                    self.order(&run, None, free, orders);
                }
            }
        }
    }

    fn confirmed_blocks(&self) -> Vec<(usize, usize, usize)> {
        let blocks =
            |experiment| self.file.sweep.blocks.iter().enumerate().map(move |(block, b)| (experiment, block, b));
        let all = (0..self.file.experiments.len()).flat_map(blocks);
        all.filter_map(|(experiment, index, block)| Some((experiment, index, block.confirm?))).collect()
    }

    /// Whether trials of an experiment and block are still to come to something.
    fn is_open(&self, experiment: usize, block: usize) -> bool {
        let trials = self.trials.iter().enumerate().filter(|(index, trial)| {
            (trial.experiment, trial.block) == (experiment, Some(block)) && !self.dropped.contains(index)
        });
        let mut seen = trials.flat_map(|(_, trial)| &trial.runs).filter_map(|run| self.seen.get(&run.id));
        self.searches().contains(&(experiment, block)) || seen.any(|seen| seen.running || seen.open())
    }
}
