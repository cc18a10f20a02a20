//! What a sweep found, as numbers: read from the store at one moment, before anything is written about it.

use super::{
    statistics,
    verdict::{self, Comparison, Pair, Unit},
};
use crate::{
    error::Result,
    event::{Prediction, Split},
    store::{Predicted, Status, Store, StoredLoss, Sweep, SweepRun},
};
use std::collections::{BTreeMap, BTreeSet};

/// A metric by epoch.
pub type Curve = Vec<(u32, f64)>;

/// Values by seed and fold.
pub type Values = BTreeMap<(u64, Option<u32>), f64>;

/// Everything a report of one sweep speaks about.
pub struct Study {
    pub sweep: Sweep,
    /// The metric that selects, and its direction, as the first experiment has them.
    pub metric: String,
    pub larger_is_better: bool,
    /// What a pair of values shares: a seed, or a seed and a fold.
    pub unit: Unit,
    /// The file's first experiment, then the others from the best mean metric to the worst.
    pub arms: Vec<Arm>,
    pub runs: Vec<SweepRun>,
    /// Who was dropped from the race for further seeds.
    pub losses: Vec<StoredLoss>,
    /// Runs that the file no longer describes; nothing here speaks of them.
    pub removed: BTreeSet<String>,
    /// What the sweep was expected to take, and took.
    pub predicted: Vec<Predicted>,
    /// Warnings and the runs they are about.
    pub warnings: BTreeMap<String, Vec<String>>,
    /// By run id: the selecting metric and the loss of the validation split, the loss of the training split.
    pub curves: Curves,
}

/// Learning curves by run id.
#[derive(Default)]
pub struct Curves {
    pub metric: BTreeMap<String, Curve>,
    pub val_loss: BTreeMap<String, Curve>,
    pub train_loss: BTreeMap<String, Curve>,
}

/// One experiment.
pub struct Arm {
    pub name: String,
    /// The resolved specification, as far as it could be read.
    pub spec: toml::Table,
    /// What the axes made of it, in the plan's order; one point without axes.
    pub points: Vec<Point>,
    /// The point it is compared at: an index into `points`; `None` while no run has finished.
    pub chosen: Option<usize>,
    /// Against the first experiment; `None` for itself and without a shared seed.
    pub comparison: Option<Comparison>,
    /// The run of median metric at the chosen point, with its predictions.
    pub shown: Option<Shown>,
}

/// One point of an experiment's axes.
pub struct Point {
    /// `optimizer.adam.lr=0.005`; empty without axes.
    pub label: String,
    /// Indices into [`Study::runs`].
    pub runs: Vec<usize>,
}

impl Point {
    /// The keys it sets and their values, as TOML.
    pub fn assignments(&self) -> Vec<(&str, &str)> {
        let (mut parts, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0, false);
        for (at, letter) in self.label.char_indices() {
            match letter {
                '"' => quoted = !quoted,
                '[' | '{' if !quoted => depth += 1,
                ']' | '}' if !quoted => depth -= 1,
                ',' if !quoted && depth == 0 => {
                    parts.push(&self.label[start..at]);
                    start = at + 1;
                }
                _ => {}
            }
        }
        parts.push(&self.label[start..]);
        parts.into_iter().filter_map(|part| part.trim().split_once('=')).collect()
    }
}

/// The run whose predictions stand for an experiment.
pub struct Shown {
    pub run: String,
    pub seed: u64,
    pub classes: Vec<String>,
    pub predictions: Vec<Prediction>,
}

impl Study {
    /// Reads what a sweep's runs came to.
    pub fn numbers(store: &Store, sweep: &str) -> Result<Self> {
        store.snapshot(|store| Self::read(store, sweep))
    }

    /// Reads the same, and curves, predictions and warnings.
    pub fn whole(store: &Store, sweep: &str) -> Result<Self> {
        store.snapshot(|store| {
            let mut study = Self::read(store, sweep)?;
            study.curves = Curves {
                metric: store.curves(sweep, Split::Val, &study.metric)?,
                val_loss: store.curves(sweep, Split::Val, "loss")?,
                train_loss: store.curves(sweep, Split::Train, "loss")?,
            };
            study.warnings = warnings(store, &study.runs)?;
            study.show(store)?;
            Ok(study)
        })
    }

    fn read(store: &Store, sweep: &str) -> Result<Self> {
        let (found, runs, losses) = (store.sweep(sweep)?, store.runs(sweep)?, store.losses(sweep)?);
        let experiments = store.experiments(sweep)?.into_iter();
        let arms: Vec<Arm> = experiments.map(|experiment| Arm::new(experiment.name, &experiment.spec, &runs)).collect();
        let (metric, larger_is_better) = arms.first().map_or(("auc".into(), true), |arm| select(&arm.spec));
        let unit = folds(&runs).map_or(Unit::Seed, |of| Unit::Fold { of });
        let (warnings, curves) = Default::default();
        let (removed, predicted) = (store.removed(sweep)?, store.predicted(sweep)?);
        let mut study = Self {
            sweep: found,
            metric,
            larger_is_better,
            unit,
            arms,
            runs,
            losses,
            removed,
            predicted,
            warnings,
            curves,
        };
        study.choose();
        study.rank();
        study.compare();
        Ok(study)
    }

    /// Whether experiments have several points: the choice among them is then made on the validation set itself.
    pub fn has_points(&self) -> bool {
        self.arms.iter().any(|arm| arm.points.len() > 1)
    }

    /// A value by `(seed, fold)` of the finished runs of a point.
    pub fn values(&self, point: &Point, name: &str) -> Values {
        let runs = point.runs.iter().filter_map(|index| self.runs.get(*index));
        let finished = runs.filter(|at| at.run.status == Status::Finished);
        let values = finished.filter_map(|at| Some(((at.run.seed, at.run.fold), *at.run.summary.get(name)?)));
        values.filter(|(_, value)| value.is_finite()).collect()
    }

    /// The same, of an experiment at its chosen point, in the order of seeds.
    pub fn chosen_values(&self, arm: &Arm, name: &str) -> Vec<f64> {
        arm.chosen().map(|point| self.values(point, name).into_values().collect()).unwrap_or_default()
    }

    /// The experiment of best mean metric.
    pub fn best(&self) -> Option<&Arm> {
        let valued = self.arms.iter().filter_map(|arm| Some((arm, self.merit(arm)?)));
        valued.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(arm, _)| arm)
    }

    /// An experiment's mean metric, turned so that larger is better.
    fn merit(&self, arm: &Arm) -> Option<f64> {
        let sign = if self.larger_is_better { 1.0 } else { -1.0 };
        Some(sign * statistics::mean(&self.chosen_values(arm, &self.metric))?)
    }

    /// The first experiment, which the others are compared with, then those, the best first; without a value, last.
    fn rank(&mut self) {
        let merits: Vec<f64> = self.arms.iter().map(|arm| self.merit(arm).unwrap_or(f64::NEG_INFINITY)).collect();
        let mut ranked: Vec<(f64, Arm)> = merits.into_iter().zip(std::mem::take(&mut self.arms)).collect();
        if let [_, others @ ..] = ranked.as_mut_slice() {
            others.sort_by(|a, b| b.0.total_cmp(&a.0));
        }
        self.arms = ranked.into_iter().map(|(_, arm)| arm).collect();
    }

    /// Distinct runs by status.
    pub fn count(&self, status: Status) -> usize {
        let runs = self.runs.iter().filter(|at| at.run.status == status);
        runs.map(|at| &at.run.id).collect::<BTreeSet<_>>().len()
    }

    /// An experiment's curves at its chosen point: of the finished runs, or of all while none has finished.
    pub fn arm_curves<'a>(&self, arm: &Arm, curves: &'a BTreeMap<String, Curve>) -> Vec<&'a Curve> {
        let Some(point) = arm.chosen().or(arm.points.first()) else { return Vec::new() };
        let runs: Vec<&SweepRun> = point.runs.iter().filter_map(|index| self.runs.get(*index)).collect();
        let finished: Vec<&SweepRun> = runs.iter().copied().filter(|at| at.run.status == Status::Finished).collect();
        let of = if finished.is_empty() { runs } else { finished };
        of.iter().filter_map(|at| curves.get(&at.run.id)).filter(|curve| !curve.is_empty()).collect()
    }

    /// The best mean among the points with the most finished seeds: a point with one lucky seed must not win.
    fn choose(&mut self) {
        let sign = if self.larger_is_better { 1.0 } else { -1.0 };
        let pick = |arm: &Arm| {
            let values = |point| self.values(point, &self.metric).into_values().collect::<Vec<f64>>();
            let all: Vec<Vec<f64>> = arm.points.iter().map(values).collect();
            let most = all.iter().map(Vec::len).max().filter(|most| *most > 0)?;
            let full = all.iter().enumerate().filter(|(_, values)| values.len() == most);
            let means = full.filter_map(|(index, values)| Some((index, sign * statistics::mean(values)?)));
            means.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(index, _)| index)
        };
        let chosen: Vec<Option<usize>> = self.arms.iter().map(pick).collect();
        for (arm, chosen) in self.arms.iter_mut().zip(chosen) {
            arm.chosen = chosen;
        }
    }

    fn compare(&mut self) {
        let mut comparisons: Vec<Option<Comparison>> =
            (0..self.arms.len()).map(|index| if index == 0 { None } else { self.against_first(index) }).collect();
        verdict::judge(&mut comparisons.iter_mut().flatten().collect::<Vec<_>>());
        for (arm, comparison) in self.arms.iter_mut().zip(comparisons) {
            arm.comparison = comparison;
        }
    }

    fn against_first(&self, index: usize) -> Option<Comparison> {
        self.between(self.arms.first()?, self.arms.get(index)?)
    }

    /// One experiment against another at their chosen points, over the seeds, or seeds and folds, both have finished.
    pub fn between(&self, reference: &Arm, candidate: &Arm) -> Option<Comparison> {
        let others = self.values(candidate.chosen()?, &self.metric);
        let pairs = self.pairs(self.values(reference.chosen()?, &self.metric), &others);
        let names = (reference.name.as_str(), candidate.name.as_str());
        let mut comparison = Comparison::over_seeds(names, &self.metric, self.larger_is_better, self.unit, &pairs)?;
        comparison.notes.extend(self.notes());
        Some(comparison)
    }

    /// Values that share their seed, and their fold where there are folds.
    pub fn pairs(&self, values: Values, others: &Values) -> Vec<Pair> {
        values.into_iter().filter_map(|(seed, value)| Some((value, *others.get(&seed)?))).collect()
    }

    /// What a reader of any of its comparisons must know.
    pub fn notes(&self) -> Vec<String> {
        self.choice_note().into_iter().chain(self.fold_note()).collect()
    }

    /// What choosing a point on the validation set does to its numbers.
    pub fn choice_note(&self) -> Option<String> {
        let most = self.arms.iter().map(|arm| arm.points.len()).max().filter(|most| *most > 1)?;
        Some(format!(
            "Each experiment is shown at its best point by mean {}, picked among up to {most} points on the same \
             validation set: its numbers are optimistic, the more so the more points it had.",
            super::words::metric(&self.metric)
        ))
    }

    /// What folds do to intervals.
    pub fn fold_note(&self) -> Option<String> {
        let Unit::Fold { of } = self.unit else { return None };
        Some(format!(
            "Values are of single folds: each model was validated on one of {of} folds and trained on the others. Models of \
             different folds share training images, so the variance of a mean difference counts 1/n + 1/{} in place of 1/n \
             (the corrected resampled t test of Nadeau & Bengio 2003).",
            of.max(2) - 1
        ))
    }

    /// Reads the predictions of each experiment's run of median metric.
    fn show(&mut self, store: &Store) -> Result<()> {
        for index in 0..self.arms.len() {
            let Some((run, seed)) = self.median_run(&self.arms[index]) else { continue };
            let predictions = store.predictions(&run, Split::Val)?;
            if predictions.is_empty() {
                continue;
            }
            let classes = store.classes(&run)?;
            self.arms[index].shown = Some(Shown { run, seed, classes, predictions });
        }
        Ok(())
    }

    fn median_run(&self, arm: &Arm) -> Option<(String, u64)> {
        let runs = arm.chosen()?.runs.iter().filter_map(|index| self.runs.get(*index)).map(|at| &at.run);
        let finished = runs.filter(|run| run.status == Status::Finished);
        let mut valued: Vec<_> = finished.filter_map(|run| Some((*run.summary.get(&self.metric)?, run))).collect();
        valued.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.seed.cmp(&b.1.seed)));
        let (_, run) = valued.get(valued.len().checked_sub(1)? / 2)?;
        Some((run.id.clone(), run.seed))
    }
}

impl Arm {
    fn new(name: String, spec: &str, runs: &[SweepRun]) -> Self {
        let mut points: Vec<Point> = Vec::new();
        for (index, at) in runs.iter().enumerate().filter(|(_, at)| at.experiment == name) {
            match points.iter_mut().find(|point| point.label == at.point) {
                Some(point) => point.runs.push(index),
                None => points.push(Point { label: at.point.clone(), runs: vec![index] }),
            }
        }
        // A specification of another version may no longer be readable: the report then shows what it can.
        let spec = spec.parse().unwrap_or_default();
        Self { name, spec, points, chosen: None, comparison: None, shown: None }
    }

    /// The point it is compared at.
    pub fn chosen(&self) -> Option<&Point> {
        self.points.get(self.chosen?)
    }
}

/// How many folds the runs' cross-validations have, the fewest if they differ; `None` without any.
fn folds(runs: &[SweepRun]) -> Option<u32> {
    let of = |at: &SweepRun| {
        let spec: toml::Table = at.run.spec.parse().ok()?;
        spec.get("fold")?.get("of")?.as_integer().and_then(|of| u32::try_from(of).ok())
    };
    runs.iter().filter(|at| at.run.fold.is_some()).filter_map(of).min()
}

/// The selecting metric of a specification, and whether larger is better.
pub fn select(spec: &toml::Table) -> (String, bool) {
    let select = spec.get("select").and_then(toml::Value::as_table);
    let key = |key: &str| select.and_then(|select| select.get(key)).and_then(toml::Value::as_str);
    (key("metric").unwrap_or("auc").into(), key("mode") != Some("min"))
}

fn warnings(store: &Store, runs: &[SweepRun]) -> Result<BTreeMap<String, Vec<String>>> {
    let mut warnings = BTreeMap::<String, Vec<String>>::new();
    let ids: BTreeSet<&str> = runs.iter().map(|at| at.run.id.as_str()).collect();
    for id in ids {
        for warning in store.warnings(id)? {
            warnings.entry(warning.message).or_default().push(warning.run);
        }
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_read_back_from_its_label() {
        let label = "lr=0.1, augment=[{ mixup = { alpha = 1.0 } }, { cutmix = {} }], name=\"a, b]\"".to_string();
        let point = Point { label, runs: Vec::new() };
        let expected =
            [("lr", "0.1"), ("augment", "[{ mixup = { alpha = 1.0 } }, { cutmix = {} }]"), ("name", "\"a, b]\"")];
        assert_eq!(point.assignments(), expected);
        assert!(Point { label: String::new(), runs: Vec::new() }.assignments().is_empty());
    }
}
