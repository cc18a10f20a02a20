//! Pruning: which paused trials go on, and which are dropped.

use super::{
    director::{Director, Seen},
    trial::Trial,
};
use crate::prune::{Among, Judgement, Pruner, Standing};
use std::collections::BTreeSet;

/// The epochs after which a trial pauses, as far as it is evaluated there.
pub fn rungs(pruner: &dyn Pruner, trial: &Trial) -> Vec<u32> {
    let Some(spec) = trial.runs.first().map(|run| &run.spec) else { return Vec::new() };
    let every = spec.eval_every.max(1);
    let evaluated = |rung: u32| rung.div_ceil(every) * every;
    let rungs: BTreeSet<u32> = pruner.rungs(spec.epochs).into_iter().map(evaluated).collect();
    rungs.into_iter().filter(|rung| *rung < spec.epochs).collect()
}

/// Where a trial is on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// On its way to a rung, or to the end.
    UnderWay,
    /// All its runs have come to this rung.
    At(usize),
    /// Over, one way or the other.
    Over,
}

impl Director<'_> {
    /// How far a trial may go now; `None` to the end.
    pub(super) fn target(&self, trial: &Trial) -> Option<u32> {
        let pruner = self.pruner()?;
        rungs(pruner, trial).get(trial.granted).copied()
    }

    /// Judges every trial that has paused, rung by rung.
    pub(super) fn judge(&mut self) {
        let eager = self.pruner().is_some_and(Pruner::continues_first);
        for group in self.groups() {
            self.recognize(&group);
            let mut closed = !self.is_searching(&group);
            let mut rung = 0;
            while group.iter().any(|index| self.trials[*index].granted >= rung) {
                // A rung is judged as late as possible: what can go on to it, or to one below, goes first.
                if !eager && self.has_work(&group) {
                    break;
                }
                closed = self.judge_rung(&group, rung, closed);
                rung += 1;
            }
        }
    }

    /// Trials that are compared with each other.
    fn groups(&self) -> Vec<Vec<usize>> {
        let all = || 0..self.trials.len();
        match self.pruner().map(Pruner::among) {
            None => Vec::new(),
            Some(Among::All) => vec![all().collect()],
            Some(Among::Points) => {
                let of = |experiment| all().filter(|index| self.trials[*index].experiment == experiment).collect();
                (0..self.file.experiments.len()).map(of).collect()
            }
        }
    }

    /// Whether trials of a group are still to be decided on.
    fn is_searching(&self, group: &[usize]) -> bool {
        let among = |experiment| group.iter().any(|index| self.trials[*index].experiment == experiment);
        self.searches().into_iter().any(|(experiment, _)| among(experiment))
    }

    /// Whether a trial of a group has a run that can be ordered.
    fn has_work(&self, group: &[usize]) -> bool {
        group.iter().any(|index| {
            let (trial, target) = (&self.trials[*index], self.target(&self.trials[*index]));
            let seen = trial.runs.iter().filter_map(|run| self.seen.get(&run.id));
            { seen }.any(|seen| seen.open() && target.is_none_or(|target| seen.reached() < target))
        })
    }

    /// A trial that an earlier command has let beyond a rung was granted that.
    fn recognize(&mut self, group: &[usize]) {
        for &index in group {
            let Some(pruner) = self.pruner() else { return };
            let trial = &self.trials[index];
            let reached = self.alive(trial).iter().map(|seen| beyond(seen)).max().unwrap_or(0);
            let passed = rungs(pruner, trial).iter().filter(|rung| **rung < reached).count();
            self.trials[index].granted = trial.granted.max(passed);
        }
    }

    /// Judges who stands at a rung; returns whether nobody can come to the next one any more without having passed here.
    fn judge_rung(&mut self, group: &[usize], rung: usize, closed: bool) -> bool {
        let at = |index: &usize| (self.trials[*index].granted == rung).then(|| self.place(&self.trials[*index]));
        let places: Vec<(usize, Place)> = group.iter().filter_map(|index| Some((*index, at(index)?))).collect();
        let mut closed = closed && !places.iter().any(|(_, place)| *place == Place::UnderWay);
        let here = places.into_iter().filter(|(_, place)| *place == Place::At(rung)).map(|(index, _)| index);
        let here: BTreeSet<usize> = here.collect();
        let mut field: Vec<(f64, usize)> = Vec::new();
        if !here.is_empty() {
            field.extend(group.iter().filter_map(|index| Some((self.value(*index, rung)?, *index))));
            field.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        }
        let losses: Vec<f64> = field.iter().map(|(loss, _)| *loss).collect();
        let judged = closed;
        for (rank, (_, index)) in field.into_iter().enumerate().filter(|(_, (_, index))| here.contains(index)) {
            match self.verdict(index, Standing { losses: &losses, rank, closed: judged }) {
                Judgement::GoOn => {
                    self.trials[index].granted += 1;
                    self.dropped.remove(&index);
                }
                Judgement::Wait => {
                    closed = false;
                    self.dropped.remove(&index);
                }
                Judgement::Drop => _ = self.dropped.insert(index),
            }
        }
        closed
    }

    fn verdict(&self, index: usize, standing: Standing) -> Judgement {
        let Some(pruner) = self.pruner() else { return Judgement::GoOn };
        let before = || self.dropped.contains(&index) || self.alive(&self.trials[index]).iter().any(|seen| seen.pruned);
        if !pruner.reconsiders() && before() {
            return Judgement::Drop;
        }
        pruner.judge(&standing)
    }

    /// The runs of a trial that have not failed.
    fn alive(&self, trial: &Trial) -> Vec<&Seen> {
        let seen = trial.runs.iter().filter_map(|run| self.seen.get(&run.id));
        seen.filter(|seen| !seen.failed).collect()
    }

    fn place(&self, trial: &Trial) -> Place {
        let alive = self.alive(trial);
        if alive.iter().all(|seen| seen.finished.is_some()) {
            return Place::Over;
        }
        match self.target(trial) {
            Some(target) if alive.iter().all(|seen| !seen.running && beyond(seen) >= target) => {
                Place::At(trial.granted)
            }
            _ => Place::UnderWay,
        }
    }

    /// A trial's mean loss at a rung, once all its runs have come there.
    fn value(&self, index: usize, rung: usize) -> Option<f64> {
        let trial = &self.trials[index];
        let epoch = *rungs(self.pruner()?, trial).get(rung)?;
        let losses: Option<Vec<f64>> =
            self.alive(trial).into_iter().map(|seen| seen.best(epoch).filter(|_| beyond(seen) >= epoch)).collect();
        losses.filter(|losses| !losses.is_empty()).map(|losses| losses.iter().sum::<f64>() / losses.len() as f64)
    }
}

/// The epoch a run has come to; one that has finished is beyond all.
fn beyond(seen: &Seen) -> u32 {
    if seen.finished.is_some() { u32::MAX } else { seen.reached() }
}
