//! What `list` and `show` print.

use super::{
    content::epochs,
    study::{Study, select},
    words,
};
use crate::{
    error::Result,
    event::{Origin, Split, Values},
    store::{Attempt, Run, Serves, Status, Store, Sweep, SweepRun, Warning},
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

/// The runs of one sweep.
#[derive(Clone, Debug)]
pub struct Runs {
    pub runs: Vec<SweepRun>,
    /// The metric that selects.
    pub metric: String,
}

/// Every run of a sweep, in the plan's order.
pub fn runs(store: &Store, sweep: &str) -> Result<Runs> {
    let study = Study::numbers(store, &store.sweep(sweep)?.name)?;
    Ok(Runs { runs: study.runs, metric: study.metric })
}

impl Runs {
    fn row(&self, at: &SweepRun) -> [String; 7] {
        let run = &at.run;
        let state = if run.held { "paused".into() } else { run.status.to_string() };
        let fold = run.fold.map_or(String::new(), |fold| format!(" fold {fold}"));
        let value = run.summary.get(&self.metric).map_or(String::new(), |value| words::number(*value, 4));
        let of = run.error.as_ref().filter(|_| run.status == Status::Failed);
        let last = of.map_or(at.point.clone(), |error| error.lines().next().unwrap_or_default().to_string());
        [run.id.clone(), at.experiment.clone(), format!("seed {}{fold}", run.seed), state, epochs(run), value, last]
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["run", "experiment", "", "state", "best epoch", &words::metric(&self.metric), ""].map(String::from);
        let rows: Vec<[String; 7]> = [head].into_iter().chain(self.runs.iter().map(|at| self.row(at))).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..7).map(width).collect();
        for row in &rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
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
                "  {}  {}  {}  from epoch {}  {}  {}  {outcome}{message}",
                attempt.attempt,
                attempt.device,
                words::plural(attempt.threads as usize, "thread"),
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
