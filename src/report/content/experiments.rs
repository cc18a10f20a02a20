//! The tables that answer the sweep's question: every experiment, every point.

use super::{Block, Section, Table};
use crate::{
    report::{
        statistics,
        study::{Arm, Point, Study},
        verdict::Unit,
        words,
    },
    store::{Run, Status},
};
use std::collections::BTreeSet;

/// The table of experiments.
pub fn section(study: &Study) -> Section {
    let metric = words::metric(&study.metric);
    let accuracy = study.metric != "accuracy";
    let spread = format!("{metric}#");
    let mut titles = vec!["experiment", counted(study), &spread, "difference#", "95 % interval#", "verdict"];
    titles.extend(accuracy.then_some("accuracy#"));
    titles.extend(["time per run#", "images/s#", "parameters#"]);
    let mut table = Table::new(&titles);
    let digits = Digits::of(study);
    for arm in &study.arms {
        let strong = study.best().is_some_and(|best| best.name == arm.name);
        table.row(strong, row(study, arm, &digits, accuracy));
    }
    let mut blocks = vec![Block::Table(table), Block::Text(legend(study, &metric))];
    blocks.extend(others_note(study).map(Block::Text));
    Section::new("Experiments", blocks)
}

/// The digits of the columns that hold uncertain numbers.
struct Digits {
    metric: usize,
    difference: usize,
    accuracy: usize,
}

impl Digits {
    fn of(study: &Study) -> Self {
        let sds = |name: &str| {
            words::decimals(study.arms.iter().filter_map(|arm| statistics::sd(&study.chosen_values(arm, name))))
        };
        let halves = study.arms.iter().filter_map(|arm| arm.comparison.as_ref()?.paired.interval);
        let difference = words::decimals(halves.map(|(low, high)| (high - low) / 2.0));
        Self { metric: sds(&study.metric), difference, accuracy: sds("accuracy") }
    }
}

fn row(study: &Study, arm: &Arm, digits: &Digits, accuracy: bool) -> Vec<String> {
    let runs: Vec<&Run> = arm.chosen().or(arm.points.first()).map(|point| of(study, point)).unwrap_or_default();
    let mut cells = vec![named(study, arm), done(study, &runs)];
    cells.push(mean(&study.chosen_values(arm, &study.metric), digits.metric));
    cells.extend(against(study, arm, digits.difference));
    if accuracy {
        cells.push(mean(&study.chosen_values(arm, "accuracy"), digits.accuracy));
    }
    let finished: Vec<&Run> = runs.into_iter().filter(|run| run.status == Status::Finished).collect();
    let average = |value: fn(&Run) -> Option<f64>| {
        statistics::mean(&finished.iter().filter_map(|run| value(run)).collect::<Vec<_>>())
    };
    cells.push(or_dash(average(|run| Some(seconds(run))), words::duration));
    cells.push(or_dash(average(|run| run.summary.get("images_per_second").copied()), words::rate));
    cells.push(or_dash(finished.first().and_then(|run| run.parameters), words::count));
    cells
}

/// The time training took, or all attempts where it does not say.
pub fn seconds(run: &Run) -> f64 {
    run.summary.get("seconds").copied().unwrap_or(run.seconds)
}

fn of<'a>(study: &'a Study, point: &Point) -> Vec<&'a Run> {
    point.runs.iter().filter_map(|index| study.runs.get(*index)).map(|at| &at.run).collect()
}

fn of_arm<'a>(study: &'a Study, arm: &'a Arm) -> impl Iterator<Item = &'a Run> {
    study.runs.iter().filter(|at| at.experiment == arm.name).map(|at| &at.run)
}

/// What the values of an experiment are counted by: a column's title.
fn counted(study: &Study) -> &'static str {
    if study.unit == Unit::Seed { "seeds#" } else { "seeds × folds#" }
}

/// `3`, `3 × 5` with folds, `2 of 3` where some are missing.
fn done(study: &Study, runs: &[&Run]) -> String {
    let finished = runs.iter().filter(|run| run.status == Status::Finished).count();
    let distinct = |of: fn(&Run) -> (u64, Option<u32>)| runs.iter().map(|run| of(run)).collect::<BTreeSet<_>>().len();
    match study.unit {
        _ if finished < runs.len() => format!("{finished} of {}", runs.len()),
        Unit::Fold { .. } => format!("{} × {}", distinct(|run| (run.seed, None)), distinct(|run| (0, run.fold))),
        _ => finished.to_string(),
    }
}

fn named(study: &Study, arm: &Arm) -> String {
    match arm.chosen().filter(|_| study.has_points() && arm.points.len() > 1) {
        Some(point) => format!("{} ({})", arm.name, point.label),
        None => arm.name.clone(),
    }
}

/// Difference, interval and verdict.
fn against(study: &Study, arm: &Arm, decimals: usize) -> [String; 3] {
    let dash = || "–".to_string();
    let is_first = study.arms.first().is_some_and(|first| first.name == arm.name);
    match &arm.comparison {
        None if is_first => [dash(), dash(), "reference".into()],
        None if of_arm(study, arm).all(|run| run.status == Status::Failed) => {
            [dash(), dash(), "every run failed".into()]
        }
        None => [dash(), dash(), format!("no finished {} in common", study.unit.word())],
        Some(comparison) => {
            let interval = comparison.paired.interval.map(|interval| words::interval(interval, decimals));
            [words::signed(comparison.paired.difference, decimals), interval.unwrap_or_else(dash), comparison.brief()]
        }
    }
}

/// `0.912 ± 0.004`, or a dash without a value.
pub fn mean(values: &[f64], decimals: usize) -> String {
    or_dash(statistics::mean(values), |mean| words::spread(mean, statistics::sd(values), decimals))
}

pub fn or_dash<T>(value: Option<T>, write: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "–".into(), write)
}

fn legend(study: &Study, metric: &str) -> String {
    let comparisons = study.arms.iter().filter(|arm| arm.comparison.is_some()).count();
    let direction = if study.larger_is_better { "larger" } else { "smaller" };
    let unit = study.unit.word();
    let units = if study.unit == Unit::Seed { "Seeds" } else { "Folds" };
    let correction = match comparisons {
        0 | 1 => String::new(),
        n => format!(" Verdicts are corrected for {n} comparisons (Holm); the intervals are not."),
    };
    format!(
        "Mean ± standard deviation (n − 1) over {unit}s of the validation {metric}, of which {direction} is better; best mean \
         in bold. Differences are to {}, {unit} by {unit}, with a 95 % Student t interval; \"better\" and \"worse\" mean \
         p ≤ 0.05. {units} still needed are what would show a difference of the size seen, four times in five.{correction}",
        study.arms.first().map_or("the first experiment", |arm| arm.name.as_str())
    )
}

/// Comparisons over fewer seeds than the experiments have.
fn others_note(study: &Study) -> Option<String> {
    let fewer = study.arms.iter().filter_map(|arm| {
        let comparison = arm.comparison.as_ref().filter(|comparison| comparison.unit != Unit::Image)?;
        let all = study.chosen_values(arm, &study.metric).len();
        let first = study.arms.first().map_or(0, |first| study.chosen_values(first, &study.metric).len());
        let n = comparison.paired.n;
        (n < all.max(first)).then(|| {
            format!("{} is compared over the {} both have finished", arm.name, words::plural(n, study.unit.word()))
        })
    });
    let fewer: Vec<String> = fewer.collect();
    (!fewer.is_empty()).then(|| format!("{}.", fewer.join("; ")))
}

/// Every point of every experiment; `None` without axes.
pub fn points(study: &Study) -> Option<Section> {
    if !study.has_points() {
        return None;
    }
    let mut table = Table::new(&["experiment", "point", counted(study), &format!("{}#", words::metric(&study.metric))]);
    let all = || {
        study.arms.iter().flat_map(|arm| arm.points.iter().enumerate().map(move |(index, point)| (arm, index, point)))
    };
    let values = |point: &Point| study.values(point, &study.metric).into_values().collect::<Vec<f64>>();
    let decimals = words::decimals(all().filter_map(|(.., point)| statistics::sd(&values(point))));
    let sign = if study.larger_is_better { -1.0 } else { 1.0 };
    let order = |point: &Point| {
        let values = values(point);
        (values.is_empty(), statistics::mean(&values).map_or(0.0, |mean| sign * mean))
    };
    let mut sorted: Vec<_> = all().map(|(arm, index, point)| (order(point), arm, index, point)).collect();
    let place = |arm: &Arm| study.arms.iter().position(|other| other.name == arm.name);
    sorted.sort_by(|a, b| {
        place(a.1).cmp(&place(b.1)).then(a.0.0.cmp(&b.0.0)).then(a.0.1.total_cmp(&b.0.1)).then(a.2.cmp(&b.2))
    });
    for (_, arm, index, point) in sorted {
        let cells =
            vec![arm.name.clone(), point.label.clone(), done(study, &of(study, point)), mean(&values(point), decimals)];
        table.row(arm.chosen == Some(index), cells);
    }
    let text = "The point an experiment is compared at is in bold: the best mean among its points with the most finished seeds.";
    Some(Section::new("Every point", vec![Block::Table(table), Block::Text(text.into())]))
}
