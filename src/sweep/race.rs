//! Seed racing: further seeds go to trials that no paired test has shown worse than the best.

use super::{
    PlannedRun,
    director::{Director, Order, Seen},
};
use crate::{
    error::Result,
    spec::Race,
    statistics::{self, Paired},
};
use std::{collections::BTreeMap, rc::Rc};

/// A trial that left the race.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    pub experiment: String,
    pub point: Vec<(String, String)>,
    /// Whom it was compared with.
    pub leader: String,
    pub leader_point: Vec<(String, String)>,
    /// Seeds it had by then.
    pub seeds: usize,
    /// How much larger its loss was than the leader's, seed by seed.
    pub behind: Paired,
    /// Holm's adjusted p-value, which was at most `level`.
    pub p: f64,
    pub level: f64,
}

/// Losses by seed and fold.
type Values = BTreeMap<(u64, Option<u32>), f64>;

impl Director<'_> {
    /// Goes through the race from its start, as far as there are results, and orders what the round at hand lacks.
    pub(super) fn race(&mut self, free: usize, orders: &mut Vec<Order>) -> Result<()> {
        let Some(race) = &self.file.sweep.race else { return Ok(()) };
        if !orders.is_empty() || self.is_unsettled() {
            return Ok(());
        }
        let mut field = self.contenders();
        let Some(start) = field.iter().map(|index| self.seeds_of(*index).len()).max() else { return Ok(()) };
        self.losses.clear();
        for seeds in start..=race.seeds {
            if field.len() < 2 || self.order_round(&field, seeds, free, orders)? {
                return Ok(());
            }
            if seeds < race.seeds {
                let lost = self.round(&field, seeds, race, race.seeds - start);
                field.retain(|index| !lost.iter().any(|(loser, _)| loser == index));
                self.losses.extend(lost.into_iter().map(|(_, loss)| loss));
            }
        }
        Ok(())
    }

    /// Whether runs that the file asks for are still to come to something.
    fn is_unsettled(&self) -> bool {
        let seen = |run: &Rc<PlannedRun>| self.seen.get(&run.id);
        self.trials.iter().enumerate().any(|(index, trial)| {
            let open = |seen: &Seen| seen.running || seen.open() && !self.dropped.contains(&index);
            trial.runs.iter().filter_map(seen).any(open) || trial.rest.iter().filter_map(seen).any(|seen| seen.running)
        })
    }

    /// Trials whose runs have all come to something, on every seed of the sweep.
    fn contenders(&self) -> Vec<usize> {
        let whole = |index: &usize| {
            let trial = &self.trials[*index];
            let over = |run: &Rc<PlannedRun>| self.seen.get(&run.id).is_some_and(|seen| seen.finished.is_some());
            trial.planned().all(over)
        };
        (0..self.trials.len()).filter(whole).collect()
    }

    /// The seeds a trial has by the file, in order.
    fn seeds_of(&self, index: usize) -> Vec<u64> {
        let mut seeds: Vec<u64> = Vec::new();
        let trial = &self.trials[index];
        trial.planned().for_each(|run| {
            if !seeds.contains(&run.seed) {
                seeds.push(run.seed);
            }
        });
        seeds
    }

    /// Orders what a round lacks of its first `count` seeds; true while there is something.
    fn order_round(&mut self, field: &[usize], count: usize, free: usize, orders: &mut Vec<Order>) -> Result<bool> {
        let mut lacks = false;
        for index in field {
            for run in self.first_runs(*index, count)? {
                self.enrol(run.clone());
                lacks |= self.seen.get(&run.id).is_some_and(|seen| seen.finished.is_none() && !seen.failed);
                self.order(&run, None, free, orders);
            }
        }
        Ok(lacks)
    }

    /// A trial's runs on its first `count` seeds: those of the file, then the smallest numbers that are not among these.
    fn first_runs(&mut self, index: usize, count: usize) -> Result<Vec<Rc<PlannedRun>>> {
        let own = self.seeds_of(index);
        let extra = (0..).filter(|seed| !own.contains(seed)).take(count.saturating_sub(own.len()));
        let trial = &self.trials[index];
        let mut runs: Vec<Rc<PlannedRun>> = trial.planned().cloned().collect();
        let folds: Vec<Rc<PlannedRun>> = runs.iter().filter(|run| run.seed == own[0]).cloned().collect();
        for seed in extra {
            if !self.trials[index].extra.iter().any(|run| run.seed == seed) {
                for fold in &folds {
                    let run = self.planner.reseeded(fold, seed)?;
                    self.trials[index].extra.push(Rc::new(run));
                }
            }
            runs.extend(self.trials[index].extra.iter().filter(|run| run.seed == seed).cloned());
        }
        Ok(runs)
    }

    /// Tests everyone against the best: who loses after so many seeds.
    fn round(&mut self, field: &[usize], seeds: usize, race: &Race, rounds: usize) -> Vec<(usize, Loss)> {
        let values: Vec<(usize, Values)> = field.iter().map(|index| (*index, self.values(*index, seeds))).collect();
        let (aligned, overlap) = (aligned(&values), self.overlap());
        let sum = |losses: &[f64]| losses.iter().sum::<f64>();
        let Some((best, leading)) = aligned.iter().min_by(|a, b| sum(&a.1).total_cmp(&sum(&b.1))) else {
            return Vec::new();
        };
        let against = |losses: &[f64]| {
            let differences: Vec<f64> = losses.iter().zip(leading).map(|(own, best)| own - best).collect();
            statistics::resampled(&differences, overlap).filter(|paired| paired.p.is_some())
        };
        let others = aligned.iter().filter(|(index, _)| index != best);
        let tested: Vec<(usize, Paired)> =
            others.filter_map(|(index, losses)| Some((*index, against(losses)?))).collect();
        let p: Vec<f64> = tested.iter().filter_map(|(_, paired)| paired.p).collect();
        let level = race.alpha / rounds.max(1) as f64;
        let judged = tested.into_iter().zip(statistics::holm(&p));
        let worse = judged.filter(|((_, behind), p)| *p <= level && behind.difference > 0.0);
        worse.map(|((index, behind), p)| (index, self.loss(index, *best, seeds, behind, p, level))).collect()
    }

    fn loss(&self, loser: usize, leader: usize, seeds: usize, behind: Paired, p: f64, level: f64) -> Loss {
        let of = |index: usize| {
            let trial = &self.trials[index];
            let point = trial.runs.first().map_or(Vec::new(), |run| run.point.clone());
            (self.file.experiments[trial.experiment].name.clone(), point)
        };
        let ((experiment, point), (leader, leader_point)) = (of(loser), of(leader));
        Loss { experiment, point, leader, leader_point, seeds, behind, p, level }
    }

    /// Finite losses of a trial on its first seeds.
    fn values(&mut self, index: usize, seeds: usize) -> Values {
        let runs = self.first_runs(index, seeds).unwrap_or_default();
        let value = |run: &Rc<PlannedRun>| {
            let loss = self.seen.get(&run.id)?.finished.filter(|loss| loss.is_finite())?;
            Some(((run.seed, run.fold()), loss))
        };
        runs.iter().filter_map(value).collect()
    }

    /// The share of test to training images that models share; see [`statistics::resampled`].
    fn overlap(&self) -> f64 {
        self.file.sweep.folds.as_ref().map_or(0.0, |folds| 1.0 / f64::from(folds.of.max(2) - 1))
    }

    /// Who has left the race so far.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }
}

/// The losses of each on the seeds and folds that all of them have, in one order.
fn aligned(all: &[(usize, Values)]) -> Vec<(usize, Vec<f64>)> {
    let everywhere = |key: &(u64, Option<u32>)| all.iter().all(|(_, values)| values.contains_key(key));
    let of = |values: &Values| values.iter().filter(|(key, _)| everywhere(key)).map(|(_, loss)| *loss).collect();
    all.iter().map(|(index, values)| (*index, of(values))).collect()
}
