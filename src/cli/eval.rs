use super::{
    groups::{self, Group, cell},
    inputs::{self, InputArgs, Scorer},
    output,
    robustness::{self, Robustness},
};
use crate::{
    data::Item,
    error::{Context, Error, Result},
    event::{Prediction, Values},
    metric::{Pooling, temperature, threshold},
};
use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
};

/// Every metric of a trained model, or of several as one, on labelled images
///
/// Thresholds, temperatures and ensemble weights are chosen on the runs' stored validation predictions, which were made
/// without test-time augmentation.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    input: InputArgs,
    /// The threshold beside 0.5: chosen on the validation images by youden, accuracy or fpr=0.01; or a number
    #[arg(long, default_value = "youden", value_name = "RULE")]
    threshold: threshold::Rule,
    /// A table by group: `folder`, the folder in each image's name, or a column of the label file
    #[arg(long, value_name = "COLUMN")]
    groups: Option<String>,
    /// A table by damage: JPEG, blur, resizing, noise, brightness and contrast, each at several strengths
    #[arg(long)]
    robustness: bool,
    /// Also write everything to a .json file, or the tables to a .csv file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// All that one evaluation found.
#[derive(serde::Serialize)]
struct Report {
    models: Vec<Member>,
    views: Vec<String>,
    average: Pooling,
    images: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration: Option<Calibration>,
    /// At one half, where decisions are made.
    metrics: Values,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<AtThreshold>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<Group>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    robustness: Option<Robustness>,
    notes: Vec<&'static str>,
}

#[derive(serde::Serialize)]
struct Member {
    name: String,
    weight: f64,
}

#[derive(serde::Serialize)]
struct Calibration {
    temperature: f64,
    applied: bool,
    /// Of the validation images, in nats, without and with it.
    log_loss: [f64; 2],
    validation_images: usize,
}

#[derive(serde::Serialize)]
struct AtThreshold {
    rule: String,
    value: f64,
    metrics: Values,
}

pub fn run(args: &Args) -> Result<u8> {
    let Some(labels) = &args.input.labels else {
        return Err(Error::user("eval compares with labels: give --labels FILE (img_name,target)"));
    };
    let kind = args.out.as_deref().map(kind).transpose()?;
    let items = args.input.items()?;
    let scorer = Scorer::new(&args.input)?;
    let report = report(args, labels, &scorer, &items)?;
    let json = || serde_json::to_string_pretty(&report).map_err(Error::bug);
    if let (Some(path), Some(kind)) = (&args.out, kind) {
        let text = if kind == Kind::Json { json()? + "\n" } else { report.csv() };
        std::fs::write(path, text).context(|| format!("cannot write {}", path.display()))?;
    }
    match args.json {
        true => output::line(json()?)?,
        false => output::print(report.text(args.groups.as_deref().unwrap_or_default()))?,
    }
    Ok(0)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Json,
    Csv,
}

fn kind(path: &Path) -> Result<Kind> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Ok(Kind::Json),
        Some("csv") => Ok(Kind::Csv),
        _ => Err(Error::user(format!("--out {}: end the name in .json or .csv", path.display()))),
    }
}

fn report(args: &Args, labels: &Path, scorer: &Scorer, items: &[Item]) -> Result<Report> {
    let rows = scorer.score(items, &inputs::unchanged)?;
    let mut metrics = inputs::metrics(&rows)?;
    let two = inputs::classes(&rows) == 2;
    if two {
        metrics.extend(inputs::with_scores(&rows, |scores| threshold::at_threshold(scores, 0.5)));
    }
    let threshold = chosen(args.threshold, scorer, &rows).filter(|_| two);
    let cut = threshold.as_ref().map(|threshold| threshold.value);
    let groups = args.groups.as_ref().map(|by| groups::groups(by, &rows, labels, cut)).transpose()?;
    let clean = threshold.as_ref().and_then(|at| Some((at.value, *at.metrics.get("accuracy")?)));
    let robustness = args.robustness.then(|| robustness::measure(scorer, items, &metrics, clean)).transpose()?;
    Ok(Report {
        models: members(scorer),
        views: scorer.views.iter().map(ToString::to_string).collect(),
        average: scorer.average,
        images: rows.len(),
        calibration: calibration(scorer),
        notes: notes(args, scorer, &rows, threshold.is_some()),
        metrics,
        threshold,
        groups,
        robustness,
    })
}

fn members(scorer: &Scorer) -> Vec<Member> {
    let member =
        |(model, weight): (&super::models::Classifier, &f64)| Member { name: model.name.clone(), weight: *weight };
    scorer.models.iter().zip(&scorer.weights).map(member).collect()
}

fn calibration(scorer: &Scorer) -> Option<Calibration> {
    let (temperature, rows) = (scorer.temperature?, scorer.validation.as_ref()?);
    let loss = |temperature| inputs::with_scores(rows, |scores| temperature::log_loss(scores, temperature));
    Some(Calibration {
        temperature,
        applied: scorer.calibrated,
        log_loss: [loss(1.0)?, loss(temperature)?],
        validation_images: rows.len(),
    })
}

fn chosen(rule: threshold::Rule, scorer: &Scorer, rows: &[Prediction]) -> Option<AtThreshold> {
    let value = match rule {
        threshold::Rule::Fixed(value) => value,
        _ => inputs::with_scores(&scorer.calibrated_validation()?, |scores| rule.choose(scores))?,
    };
    let metrics = inputs::with_scores(rows, |scores| threshold::at_threshold(scores, value));
    Some(AtThreshold { rule: rule.to_string(), value, metrics })
}

/// What a reader must know to take the numbers for what they are.
fn notes(args: &Args, scorer: &Scorer, rows: &[Prediction], chosen: bool) -> Vec<&'static str> {
    let known: BTreeMap<&str, u32> =
        scorer.validation.iter().flatten().map(|row| (row.image.as_str(), row.target)).collect();
    let seen = !rows.is_empty() && rows.iter().all(|row| known.get(row.image.as_str()) == Some(&row.target));
    let fixed = matches!(args.threshold, threshold::Rule::Fixed(_));
    let used = (chosen && !fixed) || scorer.calibrated || args.input.ensemble_weights == "fit";
    let mut notes = Vec::new();
    if seen && used {
        notes.push(
            "these are the validation images: numbers at a threshold, temperature or weights chosen on them are \
             optimistic",
        );
    }
    if scorer.views.len() > 1 && used {
        notes.push("the choices come from validation predictions without test-time augmentation");
    }
    if !chosen && !fixed && inputs::classes(rows) == 2 {
        notes.push("no threshold could be chosen: the models left no validation predictions of the same images");
    }
    notes
}

impl Report {
    /// For people.
    fn text(&self, by: &str) -> String {
        let mut text = self.head();
        let chosen = self.threshold.as_ref();
        let title = chosen.map(|at| format!("at {:.4}", at.value)).unwrap_or_default();
        text += &format!("\n{:<20} {:>10} {title:>10}\n", "", "at 0.5");
        for (name, value) in &self.metrics {
            let other = chosen.and_then(|at| at.metrics.get(name)).map(|value| cell(Some(value))).unwrap_or_default();
            text += format!("{name:<20} {:>10} {other:>10}", cell(Some(value))).trim_end();
            text.push('\n');
        }
        if let Some(AtThreshold { rule, value, .. }) = chosen.filter(|at| at.rule.parse::<f64>().is_err()) {
            text += &format!("\nthreshold {value:.6}: {rule} on the validation images (--threshold)\n");
        }
        text += &self.groups.as_ref().map(|groups| groups::table(by, groups)).unwrap_or_default();
        text += &self.robustness.as_ref().map(Robustness::table).unwrap_or_default();
        self.notes.iter().for_each(|note| text += &format!("Note: {note}.\n"));
        text
    }

    fn head(&self) -> String {
        let mut text = String::new();
        for (place, Member { name, weight }) in self.models.iter().enumerate() {
            let label = if place == 0 { "model" } else { "" };
            let weight = if self.models.len() > 1 { format!("  weight {weight:.3}") } else { String::new() };
            text += &format!("{label:<12} {name}{weight}\n");
        }
        let average = if self.average == Pooling::Logits { "logits" } else { "probabilities" };
        let several = self.models.len() > 1 || self.views.len() > 1;
        text += &format!("{:<12} {}\n", "views", self.views.join(", "));
        text += &if several { format!("{:<12} mean of {average}\n", "average") } else { String::new() };
        text += &format!("{:<12} {}\n", "images", self.images);
        if let Some(Calibration { temperature, applied, log_loss: [before, after], validation_images }) =
            self.calibration
        {
            let applied = if applied { "applied" } else { "--calibrate applies it" };
            text += &format!(
                "{:<12} {temperature:.4} fits {validation_images} validation images (log loss {before:.4} to \
                 {after:.4}); {applied}\n",
                "temperature"
            );
        }
        text
    }

    /// One number a row: `table,name,metric,value`.
    fn csv(&self) -> String {
        let mut text = String::from("table,name,metric,value\n");
        let mut add = |table: &str, name: &str, values: &Values| {
            for (metric, value) in values {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{table},{},{metric},{value}", output::quoted(name));
            }
        };
        add("whole", "at 0.5", &self.metrics);
        if let Some(at) = &self.threshold {
            add("whole", &format!("at {}", at.value), &at.metrics);
        }
        for group in self.groups.iter().flatten() {
            add("group", &group.name, &group.metrics);
        }
        for cell in self.robustness.iter().flat_map(|robustness| &robustness.cells) {
            add("robustness", &cell.name(), &cell.values());
        }
        text
    }
}
