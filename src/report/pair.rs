//! What `compare` says: two experiments, of one sweep or of two, or two runs.

use super::{
    images,
    study::{Arm, Study, select},
    verdict::Comparison,
    words,
};
use crate::{
    error::{Error, Result},
    event::Split,
    store::Store,
};
use std::collections::BTreeSet;

/// Two experiments (`baseline`, or `sweep/baseline`) over their shared seeds, of the last planned sweep that has both or of
/// the last that has each; or two runs (the beginnings of their ids) over their shared validation images.
pub fn compare(store: &Store, a: &str, b: &str) -> Result<Comparison> {
    let (first, second) = (having(store, a)?, having(store, b)?);
    let both = first.iter().find_map(|x| Some((x, second.iter().find(|y| y.0 == x.0)?)));
    match both.or(first.first().zip(second.first())) {
        Some((x, y)) if x.0 == y.0 => Study::numbers(store, &x.0)?.pair(&x.1, &y.1),
        Some((x, y)) => across(store, x, y),
        None => runs(store, (a, first.is_empty()), (b, second.is_empty())),
    }
}

/// A sweep and one of its experiments.
type Place = (String, String);

/// Where an experiment of this name stands, the last planned sweep first.
fn having(store: &Store, wanted: &str) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for sweep in store.sweeps()? {
        for experiment in store.experiments(&sweep.name)? {
            if wanted == experiment.name || wanted == format!("{}/{}", sweep.name, experiment.name) {
                places.push((sweep.name.clone(), experiment.name));
            }
        }
    }
    Ok(places)
}

impl Study {
    fn arm(&self, name: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.name == name)
    }

    /// One experiment against another, alone: no correction.
    fn pair(&self, reference: &str, candidate: &str) -> Result<Comparison> {
        let found = self.arm(reference).zip(self.arm(candidate)).and_then(|(a, b)| self.between(a, b));
        found.ok_or_else(|| {
            Error::user(format!(
                "{reference} and {candidate} of sweep {} share no finished {}; `runner sweep {}` goes on with what is missing",
                self.sweep.name, self.unit.word(), self.sweep.path
            ))
        })
    }

    /// The data sets that an experiment's runs were planned on.
    fn data(&self, experiment: &str) -> BTreeSet<&str> {
        self.runs.iter().filter(|at| at.experiment == experiment).map(|at| at.run.data.as_str()).collect()
    }
}

/// Experiments of two sweeps: the same data and the same metric, or nothing can be said.
fn across(store: &Store, a: &Place, b: &Place) -> Result<Comparison> {
    let (first, second) = (Study::numbers(store, &a.0)?, Study::numbers(store, &b.0)?);
    let names = [a, b].map(|(sweep, experiment)| format!("{sweep}/{experiment}"));
    let apart = |why: &str| Error::user(format!("{} and {} cannot be compared: {why}", names[0], names[1]));
    if first.data(&a.1) != second.data(&b.1) {
        return Err(apart("they saw different images"));
    }
    if first.metric != second.metric || first.unit != second.unit {
        return Err(apart("their sweeps select by other metrics, or divide into other folds"));
    }
    let chosen = |study: &Study, name: &str| study.arm(name)?.chosen().map(|point| study.values(point, &study.metric));
    let values = chosen(&first, &a.1).zip(chosen(&second, &b.1));
    let pairs = values.map(|(x, y)| first.pairs(x, &y)).filter(|pairs| !pairs.is_empty());
    let pairs = pairs.ok_or_else(|| apart(&format!("they share no finished {}", first.unit.word())))?;
    let (metric, larger) = (&first.metric, first.larger_is_better);
    let compared = Comparison::over_seeds((&names[0], &names[1]), metric, larger, first.unit, &pairs);
    let mut comparison = compared.ok_or_else(|| apart("their numbers are not finite"))?;
    let notes: BTreeSet<String> = [&first, &second].into_iter().flat_map(|study| study.notes()).collect();
    comparison.notes.extend(notes);
    Ok(comparison)
}

fn runs(store: &Store, a: (&str, bool), b: (&str, bool)) -> Result<Comparison> {
    let find = |(name, unknown): (&str, bool)| {
        store.find_run(name).map_err(|_| match unknown {
            true => Error::user(format!("`{name}` is neither an experiment nor the beginning of a run's id; `runner list` shows experiments, `runner list SWEEP` runs")),
            false => Error::user(format!("`{name}` is an experiment: compare it with an experiment, not with a run")),
        })
    };
    let (first, second) = (find(a)?, find(b)?);
    let (metric, larger) = select(&first.spec.parse().unwrap_or_default());
    let (x, y) = (store.predictions(&first.id, Split::Val)?, store.predictions(&second.id, Split::Val)?);
    images::compare((&first.id, &second.id), &metric, larger, &x, &y).ok_or_else(|| {
        Error::user(format!(
            "runs {} and {} cannot be compared on {}: they have no predictions of the same validation images",
            first.id,
            second.id,
            words::metric(&metric)
        ))
    })
}
