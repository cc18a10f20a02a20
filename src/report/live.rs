//! A sweep as it is right now, from the store alone: what is at work, how its curves go, what waits, how long it takes.

use super::{study::select, words};
use crate::{
    error::Result,
    event::Split,
    store::{Run, Status, Store, SweepRun},
};
use std::{collections::BTreeSet, fmt};

/// Runs shown of those that wait and of those that ended last.
const SHOWN: usize = 5;

/// Characters of a curve.
const CURVE: usize = 24;

/// One moment of a sweep.
#[derive(Clone, Debug)]
pub struct Live {
    pub sweep: String,
    /// Who has the results folder, where somebody has.
    pub holder: Option<String>,
    pub total: usize,
    pub finished: usize,
    pub failed: usize,
    pub pruned: usize,
    pub paused: usize,
    /// Seconds until the last run ends; `None` until it can be told.
    pub left: Option<f64>,
    pub at_work: Vec<AtWork>,
    /// Runs that wait, in the plan's order.
    pub queue: Vec<String>,
    /// Runs that ended, the last one first, with what they came to.
    pub ended: Vec<(String, String)>,
}

/// A run at work.
#[derive(Clone, Debug)]
pub struct AtWork {
    pub run: String,
    pub name: String,
    pub device: String,
    pub epoch: u32,
    pub epochs: u32,
    /// Share of all its steps that are done.
    pub done: f64,
    pub loss: Option<f64>,
    /// The selecting metric: its name, last value and curve.
    pub metric: String,
    pub value: Option<f64>,
    pub curve: Vec<f64>,
}

impl Live {
    /// Reads a sweep as of now; `holder` is who has the results folder.
    pub fn read(store: &Store, sweep: &str, holder: Option<String>) -> Result<Self> {
        store.snapshot(|store| {
            let runs = distinct(store.runs(sweep)?);
            let count = |status| runs.iter().filter(|at| at.run.status == status).count();
            let running = runs.iter().filter(|at| at.run.status == Status::Running);
            let at_work = running.map(|at| AtWork::read(store, at)).collect::<Result<Vec<_>>>()?;
            let waits = runs.iter().filter(|at| at.run.status == Status::Pending);
            Ok(Self {
                sweep: sweep.into(),
                total: runs.len(),
                finished: count(Status::Finished),
                failed: count(Status::Failed),
                pruned: count(Status::Pruned),
                paused: waits.clone().filter(|at| at.run.held).count(),
                left: left(&runs, at_work.len()).filter(|_| holder.is_some()),
                queue: waits.filter(|at| !at.run.held).map(name).collect(),
                ended: ended(&runs),
                holder,
                at_work,
            })
        })
    }
}

impl AtWork {
    fn read(store: &Store, at: &SweepRun) -> Result<Self> {
        let run = &at.run;
        let metric = select(&run.spec.parse().unwrap_or_default()).0;
        let step = store.latest_step(&run.id)?;
        let epochs = store.epochs(&run.id)?;
        let curve = epochs.iter().filter(|epoch| epoch.split == Split::Val);
        let curve: Vec<f64> = curve.filter_map(|epoch| epoch.values.get(&metric).copied()).collect();
        let all = f64::from(run.epochs.unwrap_or(1).max(1)) * run.steps_per_epoch.unwrap_or(1).max(1) as f64;
        let epochs_done = f64::from(run.epoch) * run.steps_per_epoch.unwrap_or(1) as f64;
        Ok(Self {
            run: run.id.clone(),
            name: name(at),
            device: run.device.clone().unwrap_or_default(),
            epoch: run.epoch,
            epochs: run.epochs.unwrap_or(0),
            done: (step.map_or(0.0, |(step, _)| step as f64).max(epochs_done) / all).min(1.0),
            loss: step.map(|(_, loss)| loss),
            value: curve.last().copied(),
            metric,
            curve,
        })
    }
}

/// A run that serves several points counts once.
fn distinct(mut runs: Vec<SweepRun>) -> Vec<SweepRun> {
    let mut seen = BTreeSet::new();
    runs.retain(|at| seen.insert(at.run.id.clone()));
    runs
}

/// `baseline lr=0.005 seed 0`.
fn name(at: &SweepRun) -> String {
    let point: String = at.point.split(", ").filter(|point| !point.is_empty()).map(short).collect();
    let fold = at.run.fold.map_or(String::new(), |fold| format!(" fold {fold}"));
    format!("{}{point} seed {}{fold}", at.experiment, at.run.seed)
}

fn short(point: &str) -> String {
    let (path, value) = point.split_once('=').unwrap_or((point, ""));
    format!(" {}={value}", path.rsplit('.').next().unwrap_or(path))
}

/// Seconds until the last run ends, if an epoch goes on costing what it cost so far.
fn left(runs: &[SweepRun], at_work: usize) -> Option<f64> {
    let measured: Vec<&SweepRun> = runs.iter().filter(|at| at.run.epoch > 0 && at.run.seconds > 0.0).collect();
    let cost = |runs: &[&SweepRun]| {
        let (seconds, epochs) = runs
            .iter()
            .fold((0.0, 0.0), |(seconds, epochs), at| (seconds + at.run.seconds, epochs + f64::from(at.run.epoch)));
        (epochs > 0.0).then(|| seconds / epochs)
    };
    let any = cost(&measured)?;
    let to_do = runs.iter().filter(|at| matches!(at.run.status, Status::Running | Status::Pending) && !at.run.held);
    let seconds = to_do.map(|at| {
        let own: Vec<&SweepRun> = measured.iter().copied().filter(|other| other.experiment == at.experiment).collect();
        let epochs = planned(&at.run).saturating_sub(at.run.epoch);
        f64::from(epochs) * cost(&own).unwrap_or(any)
    });
    let seconds = seconds.sum::<f64>() / at_work.max(1) as f64;
    (seconds > 0.0).then_some(seconds)
}

fn planned(run: &Run) -> u32 {
    let spec = || run.spec.parse::<toml::Table>().ok()?.get("epochs")?.as_integer()?.try_into().ok();
    run.epochs.or_else(spec).unwrap_or(1)
}

fn ended(runs: &[SweepRun]) -> Vec<(String, String)> {
    let mut ended: Vec<&SweepRun> =
        runs.iter().filter(|at| matches!(at.run.status, Status::Finished | Status::Failed)).collect();
    ended.sort_by(|a, b| b.run.finished_at.unwrap_or(0.0).total_cmp(&a.run.finished_at.unwrap_or(0.0)));
    ended.iter().map(|at| (name(at), outcome(&at.run))).collect()
}

fn outcome(run: &Run) -> String {
    let metric = select(&run.spec.parse().unwrap_or_default()).0;
    match (run.status, run.summary.get(&metric)) {
        (Status::Failed, _) => format!("FAILED: {}", run.error.as_deref().unwrap_or("no message")),
        (_, Some(value)) => format!("{} {}", words::metric(&metric), words::number(*value, 4)),
        _ => run.status.to_string(),
    }
}

/// A curve as blocks of different heights, the last values of a long one.
pub fn spark(values: &[f64]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = &values[values.len().saturating_sub(CURVE)..];
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let height = |value: f64| match high > low {
        true => ((value - low) / (high - low) * 7.0).round() as usize,
        false => 3,
    };
    values.iter().map(|value| if value.is_finite() { HEIGHTS[height(*value).min(7)] } else { ' ' }).collect()
}

/// A bar of `width` characters.
pub fn bar(share: f64, width: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(width - full))
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        let done = (self.finished + self.failed + self.pruned) as f64 / self.total.max(1) as f64;
        writeln!(f, "{} {}\n", bar(done, 40), self.counts())?;
        writeln!(f, "at work: {}", self.at_work.len())?;
        self.at_work.iter().try_for_each(|run| writeln!(f, "{run}"))?;
        writeln!(f, "\nwaiting: {}", self.queue.len())?;
        write_some(f, &self.queue)?;
        writeln!(f, "\nended")?;
        let ended: Vec<String> = self.ended.iter().map(|(name, outcome)| format!("{name}  {outcome}")).collect();
        write_some(f, &ended)
    }
}

impl Live {
    pub fn headline(&self) -> String {
        match &self.holder {
            Some(holder) => format!("{}: {holder} is at work", self.sweep),
            None => format!("{}: nobody is at work on it", self.sweep),
        }
    }

    pub fn counts(&self) -> String {
        let mut parts = vec![format!("{} of {} finished", self.finished, words::plural(self.total, "run"))];
        let others = [(self.failed, "failed"), (self.pruned, "pruned"), (self.paused, "paused")];
        parts.extend(others.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
        parts.extend(self.left.map(|left| format!("about {} left", words::duration(left))));
        parts.join(", ")
    }
}

impl fmt::Display for AtWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, name, device, epoch, epochs, done, .. } = self;
        write!(f, "  {} {device:<7} {name:<40} {} epoch {epoch}/{epochs}", &run[..run.len().min(8)], bar(*done, 16))?;
        if let Some(loss) = self.loss {
            write!(f, "  loss {}", words::number(loss, 4))?;
        }
        match self.value {
            Some(value) => {
                write!(f, "  {} {} {}", words::metric(&self.metric), words::number(value, 4), spark(&self.curve))
            }
            None => Ok(()),
        }
    }
}

fn write_some(f: &mut fmt::Formatter<'_>, lines: &[String]) -> fmt::Result {
    lines.iter().take(SHOWN).try_for_each(|line| writeln!(f, "  {line}"))?;
    match lines.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "  .. and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_and_bars_are_drawn() {
        assert_eq!(spark(&[0.0, 0.5, 1.0]), "▁▅█");
        assert_eq!(spark(&[1.0, 1.0]), "▄▄");
        assert_eq!(spark(&[1.0, f64::NAN, 2.0]), "▁ █");
        assert_eq!(spark(&[0.0; 100]).chars().count(), CURVE);
        assert_eq!((bar(0.5, 4), bar(7.0, 2)), ("██░░".into(), "██".into()));
    }
}
