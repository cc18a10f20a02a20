//! What `list`, `show` and `compare` print.

use super::{
    images,
    study::{Study, select},
    verdict::Comparison,
    words,
};
use crate::{
    error::{Error, Result},
    event::{Origin, Split, Values},
    store::{Attempt, Run, Serves, Status, Store, Sweep, Warning},
};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Every sweep and its experiments.
#[derive(Clone, Debug)]
pub struct Listing {
    pub sweeps: Vec<(Sweep, Vec<Line>)>,
}

/// An experiment of a sweep.
#[derive(Clone, Debug)]
pub struct Line {
    pub experiment: String,
    pub finished: usize,
    pub runs: usize,
    /// `AUC 0.912 ± 0.004`; empty while nothing has finished.
    pub value: String,
}

/// What the store holds.
pub fn list(store: &Store) -> Result<Listing> {
    let mut sweeps = Vec::new();
    for sweep in store.sweeps()? {
        let study = Study::numbers(store, &sweep.name)?;
        let lines = study.arms.iter().map(|arm| line(&study, &arm.name)).collect();
        sweeps.push((sweep, lines));
    }
    Ok(Listing { sweeps })
}

fn line(study: &Study, experiment: &str) -> Line {
    let runs: Vec<&Run> = study.runs.iter().filter(|at| at.experiment == experiment).map(|at| &at.run).collect();
    let finished = runs.iter().filter(|run| run.status == Status::Finished).count();
    let arm = study.arms.iter().find(|arm| arm.name == experiment);
    let values = arm.map(|arm| study.chosen_values(arm, &study.metric)).unwrap_or_default();
    let value = super::statistics::mean(&values).map(|mean| {
        let sd = super::statistics::sd(&values);
        format!("{} {}", words::metric(&study.metric), words::spread(mean, sd, words::decimals(sd)))
    });
    Line { experiment: experiment.into(), finished, runs: runs.len(), value: value.unwrap_or_default() }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sweeps.is_empty() {
            return writeln!(f, "no sweeps yet");
        }
        for (sweep, lines) in &self.sweeps {
            let failed = if sweep.failed > 0 { format!(", {} failed", sweep.failed) } else { String::new() };
            let done = format!("{} of {} finished{failed}", sweep.finished, words::plural(sweep.runs, "run"));
            writeln!(f, "{}  {done}  {}  {}", sweep.name, words::date(sweep.updated_at), sweep.path)?;
            let width = lines.iter().map(|line| line.experiment.chars().count()).max().unwrap_or(0);
            for line in lines {
                let done = format!("{}/{}", line.finished, line.runs);
                writeln!(f, "{}", format!("  {:<width$}  {done:>7}  {}", line.experiment, line.value).trim_end())?;
            }
        }
        Ok(())
    }
}

/// Everything about one run.
#[derive(Clone, Debug)]
pub struct Details {
    pub run: Run,
    pub serves: Vec<Serves>,
    pub attempts: Vec<Attempt>,
    pub warnings: Vec<Warning>,
    /// Validation values by epoch.
    pub epochs: Vec<(u32, Values)>,
    /// The folders of the run that exist beside the store.
    pub folders: Vec<PathBuf>,
    /// The metric that selects.
    pub metric: String,
}

/// A run by the beginning of its id.
pub fn show(store: &Store, run: &str) -> Result<Details> {
    let run = store.find_run(run)?;
    let serves = store.serves(&run.id)?;
    let results = store.path().parent().unwrap_or(Path::new("."));
    let mut folders: Vec<PathBuf> =
        serves.iter().map(|at| results.join(&at.sweep).join("runs").join(&run.id)).filter(|dir| dir.exists()).collect();
    folders.dedup();
    let epochs = store.epochs(&run.id)?.into_iter().filter(|epoch| epoch.split == Split::Val);
    Ok(Details {
        serves,
        attempts: store.attempts(&run.id)?,
        warnings: store.warnings(&run.id)?,
        epochs: epochs.map(|epoch| (epoch.epoch, epoch.values)).collect(),
        folders,
        metric: select(&run.spec.parse().unwrap_or_default()).0,
        run,
    })
}

impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = &self.run;
        let fold = run.fold.map_or(String::new(), |fold| format!("fold {fold}  "));
        writeln!(f, "run {}  seed {}  {fold}{}", run.id, run.seed, run.status)?;
        for at in &self.serves {
            let point = if at.point.is_empty() { String::new() } else { format!("  {}", at.point) };
            writeln!(f, "  {} / {}{point}", at.sweep, at.experiment)?;
        }
        if let Some(error) = &run.error {
            writeln!(f, "  {}: {error}", run.cause.as_deref().unwrap_or("error"))?;
        }
        for folder in &self.folders {
            writeln!(f, "  files in {}", folder.display())?;
        }
        self.write_attempts(f)?;
        self.write_origins(f)?;
        for warning in &self.warnings {
            writeln!(f, "\nwarning: {}", warning.message)?;
        }
        self.write_epochs(f)?;
        if !run.summary.is_empty() {
            writeln!(f, "\nat the selected epoch")?;
            let width = run.summary.keys().map(String::len).max().unwrap_or(0);
            for (name, value) in &run.summary {
                writeln!(f, "  {name:<width$}  {}", words::number(*value, 4))?;
            }
        }
        writeln!(f, "\nspecification\n\n{}", run.spec.trim_end())
    }
}

impl Details {
    fn write_attempts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.attempts.is_empty() {
            writeln!(f, "\nattempts")?;
        }
        for attempt in &self.attempts {
            let outcome = attempt.outcome.as_deref().unwrap_or("running, or vanished");
            let message = attempt.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
            writeln!(
                f,
                "  {}  {}  {} threads  from epoch {}  {}  {}  {outcome}{message}",
                attempt.attempt,
                attempt.device,
                attempt.threads,
                attempt.epoch,
                words::date(attempt.started_at),
                words::duration(attempt.seen_at - attempt.started_at),
            )?;
        }
        Ok(())
    }

    /// What attempts were made with; said again only where it changed.
    fn write_origins(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = None;
        for attempt in &self.attempts {
            let Some(origin) = attempt.origin.as_ref().filter(|origin| before != Some(*origin)) else { continue };
            before = Some(origin);
            writeln!(f, "\nmade with (attempt {} on)", attempt.attempt)?;
            self.origin_lines(origin).iter().try_for_each(|(what, value)| writeln!(f, "  {what:<9}  {value}"))?;
        }
        Ok(())
    }

    fn origin_lines(&self, origin: &Origin) -> Vec<(&'static str, String)> {
        let Origin { version, binary, commit, patch, command, host, hardware, micro_batch } = origin;
        let binary = binary.as_deref().map_or(String::new(), |hash| format!(", SHA-256 {hash}"));
        let patch = patch.as_ref().map_or(String::new(), |patch| format!(", with provenance/{patch} on top"));
        let commit = commit.as_deref().map_or("no git repository".into(), |commit| format!("{commit}{patch}"));
        let mut lines = vec![
            ("program", format!("runner {version}{binary}")),
            ("folder", commit),
            ("data", self.run.data.clone()),
            ("machine", format!("{host}: {hardware}")),
            ("command", command.clone()),
        ];
        lines.extend(micro_batch.map(|images| ("memory", format!("{images} images at a time"))));
        lines
    }

    fn write_epochs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.epochs.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nepoch  loss    {}", words::metric(&self.metric))?;
        for (epoch, values) in &self.epochs {
            let value = |name: &str| values.get(name).map_or("–".into(), |value| words::number(*value, 4));
            let mark = if self.run.best_epoch == Some(*epoch) { "  selected" } else { "" };
            writeln!(f, "{epoch:>5}  {:<6}  {}{mark}", value("loss"), value(&self.metric))?;
        }
        Ok(())
    }
}

/// Two experiments of a sweep (`baseline`, or `sweep/baseline`; the last planned sweep that has both) over their shared
/// seeds, or two runs (the beginnings of their ids) over their shared validation images.
pub fn compare(store: &Store, a: &str, b: &str) -> Result<Comparison> {
    match experiments(store, a, b)? {
        Some(comparison) => Ok(comparison),
        None => runs(store, a, b),
    }
}

fn experiments(store: &Store, a: &str, b: &str) -> Result<Option<Comparison>> {
    for sweep in store.sweeps()? {
        let names: Vec<String> =
            store.experiments(&sweep.name)?.into_iter().map(|experiment| experiment.name).collect();
        let find = |wanted: &str| {
            names.iter().find(|name| wanted == name.as_str() || wanted == format!("{}/{name}", sweep.name)).cloned()
        };
        if let (Some(a), Some(b)) = (find(a), find(b)) {
            return Study::numbers(store, &sweep.name)?.pair(&a, &b).map(Some);
        }
    }
    Ok(None)
}

impl Study {
    /// One experiment against another, alone: no correction.
    fn pair(&self, reference: &str, candidate: &str) -> Result<Comparison> {
        let arm = |name: &str| self.arms.iter().find(|arm| arm.name == name);
        let found = arm(reference).zip(arm(candidate)).and_then(|(a, b)| self.between(a, b));
        found.ok_or_else(|| {
            Error::user(format!(
                "{reference} and {candidate} of sweep {} share no finished {}; `runner sweep {}` goes on with what is missing",
                self.sweep.name, self.unit.word(), self.sweep.path
            ))
        })
    }
}

fn runs(store: &Store, a: &str, b: &str) -> Result<Comparison> {
    let neither = |error: Error| {
        Error::user(format!("`{a}` and `{b}` are no two experiments of one sweep, and as runs: {error}"))
    };
    let (first, second) = (store.find_run(a).map_err(neither)?, store.find_run(b).map_err(neither)?);
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
