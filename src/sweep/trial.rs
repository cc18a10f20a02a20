//! The trials of a file: a point of an experiment with the runs that try it.

use super::{PlannedRun, identity, search};
use crate::{
    error::Result,
    spec::{Data, ExperimentFile, Point, RunSpec, Sample, Sampler, Space},
};
use std::{collections::BTreeSet, rc::Rc};

/// A point of an experiment and its runs.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Positions in the file.
    pub experiment: usize,
    pub block: Option<usize>,
    /// The point of a searched space.
    pub sample: Option<Sample>,
    /// The runs that the trial is judged by.
    pub runs: Vec<Rc<PlannedRun>>,
    /// Runs with the other seeds, which only the best trials get.
    pub rest: Vec<Rc<PlannedRun>>,
    /// Runs with seeds beyond those of the file, which a race gave it.
    pub extra: Vec<Rc<PlannedRun>>,
    /// How many times it was allowed to go on.
    pub granted: usize,
}

impl Trial {
    /// Its runs on the file's seeds.
    pub fn planned(&self) -> impl Iterator<Item = &Rc<PlannedRun>> {
        self.runs.iter().chain(&self.rest)
    }
}

/// A point that a search decided on in an earlier command.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    pub experiment: String,
    /// [`Planner::search`] of the search it belongs to.
    pub search: String,
    pub sample: Sample,
}

/// Tells a data set's fingerprint.
pub type Fingerprint<'a> = dyn Fn(&RunSpec) -> Result<String> + 'a;

/// Turns points into trials. No run appears twice at one point.
pub struct Planner<'a> {
    file: &'a ExperimentFile,
    fingerprint: &'a Fingerprint<'a>,
    data: Data,
    seen: BTreeSet<(usize, String)>,
}

impl<'a> Planner<'a> {
    pub fn new(file: &'a ExperimentFile, fingerprint: &'a Fingerprint<'a>) -> Self {
        Self { file, fingerprint, data: Data::default(), seen: BTreeSet::new() }
    }

    /// Every trial that is known: experiments as written, then points as their blocks have them. `decided` are the further
    /// points of searches, in order.
    pub fn known(&mut self, decided: &[Decided]) -> Result<Vec<Trial>> {
        let mut trials = Vec::new();
        for (index, experiment) in self.file.experiments.iter().enumerate() {
            // A point has an entry for each fold, one behind the other.
            for point in experiment.points.chunk_by(|a, b| a.block == b.block && a.assignments == b.assignments) {
                trials.extend(self.trial(index, point[0].block, None, point)?);
            }
            for block in 0..self.file.sweep.blocks.len() {
                trials.extend(self.searched(index, block, decided)?);
            }
        }
        Ok(trials)
    }

    fn searched(&mut self, experiment: usize, block: usize, decided: &[Decided]) -> Result<Vec<Trial>> {
        let name = &self.file.experiments[experiment].name;
        let found = &self.file.sweep.blocks[block];
        let Some(space) = found.space.as_ref().filter(|_| found.is_for(name)) else { return Ok(Vec::new()) };
        let mut samples = search::known_points(space);
        if space.sampler == Sampler::Tpe {
            let search = self.search(experiment, space)?;
            let own = decided.iter().filter(|decided| decided.experiment == *name && decided.search == search);
            samples.extend(own.map(|decided| decided.sample.clone()));
            samples.truncate(space.trials);
        }
        let trials: Result<Vec<_>> =
            samples.into_iter().map(|sample| self.sampled(experiment, block, sample)).collect();
        Ok(trials?.into_iter().flatten().collect())
    }

    /// The trial of one point of a searched space; `None` where its runs belong to another trial already.
    pub fn sampled(&mut self, experiment: usize, block: usize, sample: Sample) -> Result<Option<Trial>> {
        let points = self.file.lay(experiment, block, &sample, &mut self.data)?;
        self.trial(experiment, Some(block), Some(sample), &points)
    }

    fn trial(
        &mut self,
        experiment: usize,
        block: Option<usize>,
        sample: Option<Sample>,
        folds: &[Point],
    ) -> Result<Option<Trial>> {
        let confirms = block.is_some_and(|block| self.file.sweep.blocks[block].confirm.is_some());
        let (mut runs, mut rest) = (Vec::new(), Vec::new());
        for point in folds {
            let data = (self.fingerprint)(&point.spec)?;
            for (index, &seed) in point.seeds.iter().enumerate() {
                let id = identity(&point.spec, &data, seed)?;
                if self.seen.insert((experiment, format!("{id} {:?}", point.assignments))) {
                    let (name, spec) = (self.file.experiments[experiment].name.clone(), point.spec.clone());
                    let run = PlannedRun { id, experiment: name, point: point.assignments.clone(), seed, spec };
                    if confirms && index > 0 { &mut rest } else { &mut runs }.push(Rc::new(run));
                }
            }
        }
        Ok((!runs.is_empty()).then_some(Trial { experiment, block, sample, runs, rest, extra: Vec::new(), granted: 0 }))
    }

    /// The same run with another seed.
    pub fn reseeded(&self, run: &PlannedRun, seed: u64) -> Result<PlannedRun> {
        let id = identity(&run.spec, &(self.fingerprint)(&run.spec)?, seed)?;
        Ok(PlannedRun { id, seed, ..run.clone() })
    }

    /// The name of an experiment's search: another one where its space or anything else of the experiment is another.
    pub fn search(&self, experiment: usize, space: &Space) -> Result<String> {
        let spec = &self.file.experiments[experiment].spec;
        let data = (self.fingerprint)(spec)?;
        identity(spec, &format!("{data} {}", space.describe()), space.seed)
    }
}

/// Whether what the file's runs come to decides about further runs.
pub fn is_adaptive(file: &ExperimentFile) -> bool {
    file.sweep.race.is_some()
        || file.sweep.pruning.is_some()
        || file.sweep.blocks.iter().any(|block| {
            let searches = block.space.as_ref().is_some_and(|space| space.sampler == Sampler::Tpe);
            searches || block.confirm.is_some() && block.seeds.len() > 1
        })
}
