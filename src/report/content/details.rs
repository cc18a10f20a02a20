//! What stands behind the verdict: metrics, images, specifications, warnings, runs.

use super::{
    Block, Section, Table,
    experiments::{mean, or_dash, seconds},
};
use crate::{
    metric::METRICS,
    report::{
        images, statistics,
        study::{Arm, Study},
        words,
    },
    store::{Predicted, Run, Status},
};
use std::collections::{BTreeMap, BTreeSet};

/// Every metric of every experiment; `None` while nothing has finished.
pub fn metrics(study: &Study) -> Option<Section> {
    let names = metric_names(study);
    if names.is_empty() {
        return None;
    }
    let mut titles = vec!["metric".to_string()];
    titles.extend(study.arms.iter().map(|arm| format!("{}#", arm.name)));
    let mut table = Table::new(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    for name in names {
        let values: Vec<Vec<f64>> = study.arms.iter().map(|arm| study.chosen_values(arm, name)).collect();
        let decimals = words::decimals(values.iter().filter_map(|values| statistics::sd(values)));
        let mut cells = vec![words::metric(name)];
        cells.extend(values.iter().map(|values| mean(values, decimals)));
        table.row(name == study.metric, cells);
    }
    let text = format!(
        "Validation, at the selected epoch; mean ± standard deviation over {}s. The metric that selects is in bold.",
        study.unit.word()
    );
    Some(Section::new("Every metric", vec![Block::Table(table), Block::Text(text)]))
}

/// The metrics of finished runs, in the registry's order, then others by name.
fn metric_names(study: &Study) -> Vec<&str> {
    let finished = study.runs.iter().filter(|at| at.run.status == Status::Finished);
    let found: BTreeSet<&str> = finished.flat_map(|at| at.run.summary.keys().map(String::as_str)).collect();
    let known = METRICS.iter().map(|metric| metric.name).filter(|name| found.contains(name));
    let speed = ["seconds", "images_per_second"];
    let others =
        found.iter().filter(|name| METRICS.iter().all(|metric| metric.name != **name) && !speed.contains(name));
    known.chain(others.copied()).collect()
}

/// More rows than this are no longer read.
const MOST_ROWS: usize = 40;

/// Precision, recall, F1 and AUC of each class and experiment, where that are many rows of the first experiment and the best;
/// `None` without predictions.
pub fn classes(study: &Study) -> Option<Section> {
    let mut table = Table::new(&["experiment", "class", "images#", "precision#", "recall#", "F1#", "AUC#"]);
    let rows: usize = study.arms.iter().filter_map(|arm| arm.shown.as_ref()).map(|shown| shown.classes.len()).sum();
    let best = study.best().map(|best| best.name.as_str());
    let told = |(index, arm): &(usize, &Arm)| rows <= MOST_ROWS || *index == 0 || Some(arm.name.as_str()) == best;
    for (_, arm) in study.arms.iter().enumerate().filter(told) {
        let Some(shown) = arm.shown.as_ref().filter(|shown| shown.classes.len() <= MOST_ROWS) else { continue };
        for (name, of) in shown.classes.iter().zip(images::by_class(&shown.predictions)) {
            let mut cells = vec![arm.name.clone(), name.clone(), of.samples.to_string()];
            let numbers = [of.precision, of.recall, of.f1, of.auc];
            cells.extend(numbers.map(|number| or_dash(number, |number| words::number(number, 3))));
            table.row(false, cells);
        }
    }
    let text = format!(
        "By each image's largest score, of the run of median {}; AUC is of the class against the rest. A dash where a number is not \
         defined: no image was taken for that class, or none is of it.",
        words::metric(&study.metric)
    );
    let blocks = vec![Block::Text(text), Block::Table(table)];
    matches!(&blocks[1], Block::Table(table) if !table.rows.is_empty()).then(|| Section::new("Each class", blocks))
}

/// What depends on which images are in the validation set; `None` without predictions.
pub fn images(study: &Study) -> Option<Section> {
    let mut table = Table::new(&["experiment", "run", "seed#", "images#", "metric", "value#", "95 % interval#"]);
    for arm in &study.arms {
        let Some(shown) = &arm.shown else { continue };
        for name in image_metrics(study) {
            let Some((value, (low, high))) = images::interval(name, &shown.predictions) else { continue };
            let decimals = words::decimals([(high - low) / 2.0]);
            let interval = format!("{} to {}", words::number(low, decimals), words::number(high, decimals));
            let (images, metric) = (shown.predictions.len().to_string(), words::metric(name));
            let (run, seed, value) = (shown.run.clone(), shown.seed.to_string(), words::number(value, decimals));
            table.row(name == study.metric, vec![arm.name.clone(), run, seed, images, metric, value, interval]);
        }
    }
    let text = format!(
        "One run of each experiment, the one of median {}: percentile bootstrap over validation images ({} draws). It shows \
         how much a number owes to which images are in the set; the spread over seeds is not in it.",
        words::metric(&study.metric),
        statistics::RESAMPLES
    );
    let mut blocks = vec![Block::Text(text), Block::Table(table)];
    blocks.extend(too_few(study).map(Block::Text));
    matches!(&blocks[1], Block::Table(table) if !table.rows.is_empty())
        .then(|| Section::new("How much the validation images decide", blocks))
}

/// The selecting metric, AUC and the TPRs.
fn image_metrics(study: &Study) -> Vec<&'static str> {
    let wanted = |name: &str| name == study.metric || name == "auc" || name.starts_with("tpr_at_fpr_");
    METRICS.iter().map(|metric| metric.name).filter(|name| wanted(name)).collect()
}

/// A false positive rate that allows fewer than ten false alarms is measured by a handful of images.
fn too_few(study: &Study) -> Option<String> {
    let shown = study.arms.iter().filter_map(|arm| arm.shown.as_ref()).find(|shown| shown.classes.len() == 2)?;
    let reals = shown.predictions.iter().filter(|row| row.target == 0).count();
    let class = &shown.classes[0];
    let rates = METRICS.iter().filter_map(|metric| metric.name.strip_prefix("tpr_at_fpr_"));
    let few: Vec<String> = rates
        .filter_map(|rate| Some((rate, rate.parse::<f64>().ok()?)))
        .filter(|(_, share)| share * (reals as f64) < 10.0)
        .map(|(rate, share)| format!("{} at {rate}", words::plural((share * reals as f64 + 1e-9) as usize, "image")))
        .collect();
    (!few.is_empty()).then(|| {
        format!(
            "The validation set is small for low false positive rates: of its {reals} images of class \"{class}\", those above \
             the threshold are at most {}. TPRs that rest on fewer than ten images are rough.",
            few.join(", ")
        )
    })
}

/// The keys in which the experiments' specifications differ; `None` for one experiment.
pub fn differences(study: &Study) -> Option<Section> {
    if study.arms.len() < 2 {
        return None;
    }
    let specs: Vec<BTreeMap<String, String>> = study.arms.iter().map(|arm| flat(&arm.spec)).collect();
    let keys: BTreeSet<&String> = specs.iter().flat_map(BTreeMap::keys).collect();
    let mut titles = vec!["key".to_string()];
    titles.extend(study.arms.iter().map(|arm| arm.name.clone()));
    let mut table = Table::new(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    for key in keys {
        let values: Vec<Option<&String>> = specs.iter().map(|spec| spec.get(key)).collect();
        if values.windows(2).any(|pair| pair[0] != pair[1]) {
            let cells = values.into_iter().map(|value| or_dash(value, Clone::clone));
            table.row(false, std::iter::once(key.clone()).chain(cells).collect());
        }
    }
    let blocks = match table.rows.is_empty() {
        true => vec![Block::Text("Nothing: the experiments have the same specification.".into())],
        false => vec![Block::Table(table)],
    };
    Some(Section::new("What differs", blocks))
}

/// A specification as dotted keys and values; lists stay whole.
pub fn flat(spec: &toml::Table) -> BTreeMap<String, String> {
    fn walk(prefix: &str, table: &toml::Table, into: &mut BTreeMap<String, String>) {
        for (key, value) in table {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                toml::Value::Table(inner) if !inner.is_empty() => walk(&path, inner, into),
                toml::Value::String(text) => _ = into.insert(path, text.clone()),
                other => _ = into.insert(path, other.to_string()),
            }
        }
    }
    let mut keys = BTreeMap::new();
    walk("", spec, &mut keys);
    keys
}

/// Warnings, each with the runs it is about; `None` without any.
pub fn warnings(study: &Study) -> Option<Section> {
    let line = |(message, runs): (&String, &Vec<String>)| match runs.as_slice() {
        [run] => format!("{message} (run {run})"),
        runs if runs.len() == study.sweep.runs => format!("{message} (every run)"),
        [first, second, .., last] if runs.len() > 4 => {
            format!("{message} ({}: {first}, {second}, .. {last})", words::plural(runs.len(), "run"))
        }
        runs => format!("{message} ({}: {})", words::plural(runs.len(), "run"), runs.join(", ")),
    };
    let lines: Vec<String> = study.warnings.iter().map(line).collect();
    (!lines.is_empty()).then(|| Section::new("Warnings", vec![Block::List(lines)]))
}

/// Every run with its state.
pub fn runs(study: &Study) -> Section {
    let metric = format!("{}#", words::metric(&study.metric));
    let mut titles = vec!["run", "experiment"];
    titles.extend(study.has_points().then_some("point"));
    let folds = study.runs.iter().any(|at| at.run.fold.is_some());
    titles.push("seed#");
    titles.extend(folds.then_some("fold#"));
    titles.extend(["state", "attempts#", "best epoch#", &metric, "time#", "device"]);
    let failures = study.runs.iter().any(|at| at.run.error.is_some());
    titles.extend(failures.then_some("error"));
    let mut table = Table::new(&titles);
    for at in &study.runs {
        let run = &at.run;
        let mut cells = vec![run.id.clone(), at.experiment.clone()];
        cells.extend(study.has_points().then(|| at.point.clone()));
        cells.push(run.seed.to_string());
        cells.extend(folds.then(|| or_dash(run.fold, |fold| fold.to_string())));
        cells.extend([run.status.to_string(), run.attempts.to_string(), epochs(run)]);
        let value = run.summary.get(&study.metric).filter(|_| run.status == Status::Finished);
        cells.push(or_dash(value, |value| words::number(*value, 4)));
        cells.push(or_dash((run.attempts > 0).then(|| seconds(run)), words::duration));
        cells.push(or_dash(run.device.clone(), |device| device));
        cells.extend(failures.then(|| run.error.clone().unwrap_or_default()));
        table.row(false, cells);
    }
    Section::new("Every run", vec![Block::Table(table)])
}

/// The selected epoch of a finished run; how far any other has come.
pub fn epochs(run: &Run) -> String {
    match (run.status, run.best_epoch, run.epochs) {
        (Status::Finished, Some(best), Some(epochs)) => format!("{best} of {epochs}"),
        (_, _, Some(epochs)) => format!("at {} of {epochs}", run.epoch),
        _ => "–".into(),
    }
}

/// What the sweep was expected to take each time it was started, and what it took; `None` where nobody could tell.
pub fn predicted(study: &Study) -> Option<Section> {
    let mut table =
        Table::new(&["started", "runs left#", "predicted#", "took#", "predicted device time#", "took#", "finished#"]);
    for Predicted { at, estimate, finished, seconds, device } in &study.predicted {
        let [low, about, high] = [estimate.low, estimate.about, estimate.high].map(words::duration);
        let predicted = format!("about {about} ({low} to {high})");
        table.row(
            false,
            vec![
                words::date(*at),
                estimate.runs.to_string(),
                predicted,
                words::duration(*seconds),
                words::duration(estimate.device),
                words::duration(*device),
                finished.to_string(),
            ],
        );
    }
    let text = "From past runs of the same kind on the same machine. Device time is that of one core or one GPU.";
    let blocks = vec![Block::Table(table), Block::Text(text.into())];
    (!study.predicted.is_empty()).then(|| Section::new("Predicted and actual", blocks))
}

/// The file this came from.
pub fn about(study: &Study) -> Section {
    let sweep = &study.sweep;
    let data: BTreeSet<&str> = study.runs.iter().map(|at| at.run.data.as_str()).collect();
    let data: Vec<&str> = data.into_iter().collect();
    let text = format!(
        "Sweep {} of {}, last planned {}; {}. Data: {}.",
        sweep.name,
        sweep.path,
        words::date(sweep.updated_at),
        words::plural(sweep.runs, "run"),
        if data.is_empty() { "none".into() } else { data.join(", ") }
    );
    let file = Block::Folded { summary: "The experiment file".into(), text: sweep.file.clone() };
    Section::new("Where this comes from", vec![Block::Text(text), file])
}

impl Study {
    /// Experiments that select by another metric than the first.
    pub fn other_metrics(&self) -> Option<String> {
        let differs =
            |arm: &&Arm| crate::report::study::select(&arm.spec) != (self.metric.clone(), self.larger_is_better);
        let others: Vec<&str> = self.arms.iter().filter(differs).map(|arm| arm.name.as_str()).collect();
        (!others.is_empty()).then(|| {
            format!("Not selected by {}, but compared on it: {}.", words::metric(&self.metric), others.join(", "))
        })
    }
}
