//! The figures of a report, drawn with plotters as SVG and PNG.

mod axes;
mod canvas;
mod confusion;
mod curves;
mod keys;
mod roc;
mod seeds;

use super::{
    study::{Arm, Curve, Point, Shown, Study},
    words,
};
use crate::error::Result;
pub use canvas::register_font;
use canvas::{Drawing, PALETTE};
use plotters::prelude::RGBColor;
use std::collections::BTreeMap;

/// A figure as it stands in a report.
pub struct Figure {
    /// Its files' name: `learning-curves`.
    pub name: &'static str,
    pub title: String,
    /// Says what is drawn, bands and dots included.
    pub caption: String,
    /// A complete SVG document.
    pub svg: String,
    /// A PNG file's bytes.
    pub png: Vec<u8>,
}

/// Every figure that the study has data for.
pub fn all(study: &Study) -> Result<Vec<Figure>> {
    let curves = [learning_curves(study)?, loss_curves(study)?];
    let figures = [keys(study)?, seeds(study)?].into_iter().chain(curves).chain([roc(study)?, confusion(study)?]);
    Ok(figures.flatten().collect())
}

fn figure(name: &'static str, title: &str, caption: String, drawing: &impl Drawing) -> Result<Option<Figure>> {
    let (svg, png) = canvas::render(drawing)?;
    Ok(Some(Figure { name, title: title.into(), caption, svg, png }))
}

/// The experiments that curves are drawn for, and their colours: as many as colours can tell apart, the first always,
/// then the best.
fn drawn(study: &Study) -> Vec<(&Arm, RGBColor)> {
    let mean = |arm: &Arm| super::statistics::mean(&study.chosen_values(arm, &study.metric));
    let sign = if study.larger_is_better { -1.0 } else { 1.0 };
    let mut others: Vec<(usize, f64)> = (study.arms.iter().enumerate().skip(1))
        .map(|(index, arm)| (index, mean(arm).map_or(f64::INFINITY, |mean| sign * mean)))
        .collect();
    others.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut kept: Vec<usize> = others.iter().take(PALETTE.len() - 1).map(|(index, _)| *index).collect();
    kept.push(0);
    kept.sort_unstable();
    kept.iter().filter_map(|index| study.arms.get(*index)).zip(PALETTE).collect()
}

fn left_out(study: &Study) -> String {
    match study.arms.len().saturating_sub(PALETTE.len()) {
        0 => String::new(),
        n => format!(
            " Drawn are the first experiment and the {} best others; {n} more are in the tables.",
            PALETTE.len() - 1
        ),
    }
}

fn seeds(study: &Study) -> Result<Option<Figure>> {
    let colours: BTreeMap<&str, RGBColor> =
        drawn(study).into_iter().map(|(arm, colour)| (arm.name.as_str(), colour)).collect();
    let row = |arm: &Arm| seeds::Row {
        name: arm.name.clone(),
        colour: colours.get(arm.name.as_str()).copied().unwrap_or(canvas::MUTED),
        values: study.chosen_values(arm, &study.metric),
        overlap: study.unit.overlap(),
    };
    let rows: Vec<seeds::Row> = study.arms.iter().map(row).filter(|row| !row.values.is_empty()).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let direction = if study.larger_is_better { "larger is better" } else { "smaller is better" };
    let x_name = format!("validation {} ({direction})", words::metric(&study.metric));
    let unit = study.unit.word();
    let caption = format!(
        "One dot a {unit}, a tall mark at their mean, a bar for its 95 % Student t interval (none for one {unit}; \
         without an end mark the bar goes on beyond the axis). Bars may overlap although a paired \
         difference is clear: the table compares {unit} by {unit}."
    );
    figure("experiments", &format!("Every {unit}"), caption, &seeds::Seeds { x_name, rows })
}

/// Keys that are drawn, and points that it takes to see anything.
const MOST_KEYS: usize = 8;
const FEWEST_POINTS: usize = 3;

fn keys(study: &Study) -> Result<Option<Figure>> {
    if study.arms.iter().all(|arm| arm.points.len() < FEWEST_POINTS) {
        return Ok(None);
    }
    let mut panels: Vec<keys::Panel> = Vec::new();
    for (arm, point, y, early) in study.arms.iter().flat_map(|arm| heights(study, arm)) {
        for (key, value) in point.assignments() {
            let dot = keys::Dot { x: value.into(), y, colour: colour(study, arm), early };
            match panels.iter_mut().find(|panel| panel.key == key) {
                Some(panel) => panel.dots.push(dot),
                None => panels.push(keys::Panel { key: key.into(), dots: vec![dot] }),
            }
        }
    }
    panels.retain(keys::Panel::is_legible);
    panels.truncate(MOST_KEYS);
    if panels.is_empty() {
        return Ok(None);
    }
    let colours = match drawn(study).as_slice() {
        [_] => String::new(),
        several => {
            let names: Vec<String> =
                several.iter().zip(COLOURS).map(|((arm, _), name)| format!("{} {name}", arm.name)).collect();
            format!(" Colours: {}.{}", names.join(", "), left_out(study))
        }
    };
    let caption = format!(
        "One dot a point: the mean over its {}s. Pale, small dots were given up early, and stand where they had come to. The \
         other keys differ as well, so a slope is a hint and no proof.{colours}",
        study.unit.word()
    );
    let y_name = format!("validation {}", words::metric(&study.metric));
    figure("keys", "What each key does", caption, &keys::Keys { y_name, panels })
}

/// The palette's colours in words.
const COLOURS: [&str; PALETTE.len()] = ["blue", "vermilion", "green", "pink", "orange", "sky blue"];

fn colour(study: &Study, arm: &Arm) -> RGBColor {
    let found = drawn(study).into_iter().find(|(other, _)| other.name == arm.name);
    found.map_or(canvas::MUTED, |(_, colour)| colour)
}

/// Every point of an experiment with its mean, or where its runs had come to when they were given up.
fn heights<'a>(study: &'a Study, arm: &'a Arm) -> impl Iterator<Item = (&'a Arm, &'a Point, f64, bool)> {
    arm.points.iter().filter_map(move |point| {
        let finished: Vec<f64> = study.values(point, &study.metric).into_values().collect();
        if let Some(mean) = super::statistics::mean(&finished) {
            return Some((arm, point, mean, false));
        }
        let runs = point.runs.iter().filter_map(|index| study.runs.get(*index));
        let last = runs.filter_map(|at| Some(study.curves.metric.get(&at.run.id)?.last()?.1)).find(|y| y.is_finite());
        last.map(|y| (arm, point, y, true))
    })
}

const CURVES: (u32, u32) = (760, 380);

fn band(study: &Study) -> String {
    format!(
        "The line is the mean over the {unit}s of an experiment's chosen point, as far as all of them have come; the band \
         is one standard deviation to either side (none for one {unit}).{}",
        left_out(study),
        unit = study.unit.word()
    )
}

fn lines(study: &Study, of: &BTreeMap<String, Curve>, dashed: bool) -> Vec<curves::Line> {
    let line = |(arm, colour): (&Arm, RGBColor)| {
        let points = curves::over_seeds(&study.arm_curves(arm, of));
        let name = if dashed { String::new() } else { arm.name.clone() };
        curves::Line { name, colour, dashed, points }
    };
    drawn(study).into_iter().map(line).filter(|line| !line.points.is_empty()).collect()
}

fn learning_curves(study: &Study) -> Result<Option<Figure>> {
    let lines = lines(study, &study.curves.metric, false);
    if lines.is_empty() || study.metric == "loss" {
        return Ok(None);
    }
    let y_name = format!("validation {}", words::metric(&study.metric));
    let drawing = curves::Curves { y_name, lines, size: CURVES };
    figure("learning-curves", "Learning curves", band(study), &drawing)
}

fn loss_curves(study: &Study) -> Result<Option<Figure>> {
    let mut both = lines(study, &study.curves.train_loss, true);
    for line in &mut both {
        line.points.iter_mut().for_each(|spot| spot.sd = None);
    }
    both.extend(lines(study, &study.curves.val_loss, false));
    if both.is_empty() {
        return Ok(None);
    }
    let caption =
        format!("Solid: validation; dashed: training (its mean alone, over augmented images). {}", band(study));
    let drawing = curves::Curves { y_name: "loss".into(), lines: both, size: CURVES };
    figure("loss-curves", "Loss", caption, &drawing)
}

fn shown(study: &Study) -> Vec<(&Arm, &Shown, RGBColor)> {
    drawn(study).into_iter().filter_map(|(arm, colour)| Some((arm, arm.shown.as_ref()?, colour))).collect()
}

fn whose(study: &Study) -> String {
    let metric = words::metric(&study.metric);
    format!("Each experiment is shown by its run of median {metric}, at that run's selected epoch.{}", left_out(study))
}

/// Two classes: one curve an experiment. More: the experiment of best metric, each class against the rest.
fn roc(study: &Study) -> Result<Option<Figure>> {
    let shown = shown(study);
    let binary = shown.iter().all(|(_, shown, _)| shown.classes.len() == 2);
    let (lines, caption) = if binary {
        (shown.iter().filter_map(|(arm, shown, colour)| experiment_roc(arm, shown, *colour)).collect(), whose(study))
    } else {
        best_by_class(study, &shown)
    };
    if lines.is_empty() {
        return Ok(None);
    }
    let caption = format!("{caption} The dashed diagonal is guessing.");
    figure("roc", "ROC", caption, &roc::Roc { lines })
}

fn experiment_roc(arm: &Arm, shown: &Shown, colour: RGBColor) -> Option<roc::Line> {
    let points = class_roc(shown, 1)?;
    let detail = format!("AUC {}, seed {}", words::number(area(&points), 3), shown.seed);
    Some(roc::Line { name: arm.name.clone(), detail, colour, points })
}

fn best_by_class(study: &Study, shown: &[(&Arm, &Shown, RGBColor)]) -> (Vec<roc::Line>, String) {
    let best = study.best().and_then(|best| shown.iter().find(|(arm, ..)| arm.name == best.name)).or(shown.first());
    let Some((arm, shown, _)) = best else { return Default::default() };
    let line = |(class, colour): (usize, RGBColor)| {
        let points = class_roc(shown, class)?;
        let detail = format!("AUC {}", words::number(area(&points), 3));
        Some(roc::Line { name: shown.classes.get(class)?.clone(), detail, colour, points })
    };
    let lines = (0..shown.classes.len()).zip(PALETTE).filter_map(line).collect();
    let more = match shown.classes.len().saturating_sub(PALETTE.len()) {
        0 => String::new(),
        n => format!(" The first {} classes; {n} more are not drawn.", PALETTE.len()),
    };
    (lines, format!("Each class of {} (seed {}) against the rest.{more}", arm.name, shown.seed))
}

fn class_roc(shown: &Shown, class: usize) -> Option<Vec<canvas::At>> {
    let score = |row: &crate::event::Prediction| Some((*row.scores.get(class)?, row.target as usize == class));
    roc::curve(shown.predictions.iter().filter_map(score).collect())
}

/// The area under a curve, by trapezoids: exactly the AUC.
fn area(points: &[canvas::At]) -> f64 {
    points.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0).sum()
}

/// More classes than this make no legible matrix.
const MOST_CLASSES: usize = 40;

fn confusion(study: &Study) -> Result<Option<Figure>> {
    let shown = shown(study);
    let Some((_, first, _)) = shown.first() else { return Ok(None) };
    let classes = first.classes.clone();
    if classes.is_empty() || classes.len() > MOST_CLASSES {
        return Ok(None);
    }
    let same = shown.iter().filter(|(_, shown, _)| shown.classes == classes);
    let matrices =
        same.map(|(arm, shown, _)| (arm.name.clone(), confusion::count(&shown.predictions, classes.len()))).collect();
    let caption =
        format!("Images by true class (rows) and predicted class (columns); shares are of a row. {}", whose(study));
    figure("confusion", "Confusion matrix", caption, &confusion::Confusion { classes, matrices })
}
