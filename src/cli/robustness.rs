//! How scores bear damage: the images again, damaged in one way at one strength at a time.
//!
//! As in DeepfakeBench and CNNDetection (Wang et al. 2020, arXiv:1912.11035), the decoded image is damaged at its own size,
//! before it is resized to the model's input: what a platform does to a file happens there too.

use super::{
    groups::cell,
    inputs::{self, Scorer},
};
use crate::{
    augment::AugmentSpec,
    data::Item,
    error::{Context, Error, Result},
    event::{Prediction, Values},
    metric::threshold,
    tensor::{Image, Key},
};
use serde_json::{Value, json};
use std::io::IsTerminal;

/// One kind of damage: its name, what it is as an entry of an `augment` list, and its strengths, from weak to strong.
struct Damage {
    name: &'static str,
    entry: fn(f64) -> Value,
    levels: &'static [f64],
}

const GRID: [Damage; 6] = [
    Damage {
        name: "JPEG quality",
        entry: |quality| json!({ "jpeg_compression": { "quality": quality as u8 } }),
        levels: &[95.0, 90.0, 80.0, 70.0, 50.0, 30.0],
    },
    Damage {
        name: "blur sigma",
        // The kernel reaches three standard deviations to each side.
        entry: |sigma| json!({ "gaussian_blur": { "sigma": sigma, "kernel_size": 6 * sigma as usize + 1 } }),
        levels: &[1.0, 2.0, 3.0],
    },
    Damage {
        name: "resize factor",
        entry: |scale| json!({ "downscale": { "scale": scale } }),
        levels: &[0.75, 0.5, 0.25],
    },
    Damage {
        name: "noise sigma",
        entry: |sigma| json!({ "gaussian_noise": { "sigma": sigma } }),
        levels: &[0.02, 0.05, 0.1],
    },
    Damage {
        name: "brightness factor",
        entry: |factor| json!({ "color_jitter": { "brightness": [factor, factor] } }),
        levels: &[0.8, 1.2, 0.6, 1.4],
    },
    Damage {
        name: "contrast factor",
        entry: |factor| json!({ "color_jitter": { "contrast": [factor, factor] } }),
        levels: &[0.8, 1.2, 0.6, 1.4],
    },
];

impl Damage {
    /// `None` where no augmentation of this program does it.
    fn at(&self, level: f64) -> Result<Option<AugmentSpec>> {
        let entry = (self.entry)(level);
        let name = entry.as_object().and_then(|entry| entry.keys().next());
        match name.is_some_and(|name| AugmentSpec::NAMES.contains(&name.as_str())) {
            true => serde_json::from_value(entry).map(Some).map_err(Error::bug).context(|| self.name.into()),
            false => Ok(None),
        }
    }
}

/// The grid and what was measured.
#[derive(serde::Serialize)]
pub struct Robustness {
    pub cells: Vec<Cell>,
}

/// One kind of damage at one strength.
#[derive(serde::Serialize)]
pub struct Cell {
    damage: &'static str,
    level: f64,
    /// `auc`, `accuracy`, and `accuracy_at_threshold` where there is one.
    metrics: Values,
    /// The same on the images as they are, minus this.
    drop: Values,
}

/// Scores the images once for every cell. `clean` are the metrics of the undamaged ones, `cut` a threshold and the
/// accuracy there.
pub fn measure(scorer: &Scorer, items: &[Item], clean: &Values, cut: Option<(f64, f64)>) -> Result<Robustness> {
    let levels = GRID.iter().flat_map(|damage| damage.levels.iter().map(move |level| (damage, *level)));
    let mut cells = Vec::new();
    let shown = std::io::stderr().is_terminal();
    for (damage, level) in levels {
        let Some(entry) = damage.at(level)? else { continue };
        if shown {
            eprint!("\r\x1b[Krobustness: {} {level}", damage.name);
        }
        let rows = scorer.score(items, &|name, image| damaged(&entry, image, name))?;
        cells.push(Cell::new(damage.name, level, &rows, clean, cut)?);
    }
    if shown {
        eprint!("\r\x1b[K");
    }
    Ok(Robustness { cells })
}

/// The image damaged; what is random depends on the image's name and the damage alone.
fn damaged(entry: &AugmentSpec, mut image: Image, name: &str) -> Result<Image> {
    entry.as_dyn().check(image.width.min(image.height)).map_err(Error::user).context(|| name.into())?;
    entry.as_dyn().sample(&mut image, &mut Key::new(0).named("robustness").named(entry.name()).named(name).rng())?;
    Ok(image)
}

impl Cell {
    fn new(
        damage: &'static str,
        level: f64,
        rows: &[Prediction],
        clean: &Values,
        cut: Option<(f64, f64)>,
    ) -> Result<Self> {
        let mut metrics = inputs::metrics(rows)?;
        metrics.retain(|name, _| matches!(&name[..], "auc" | "accuracy"));
        let mut drop: Values =
            metrics.iter().filter_map(|(name, value)| Some((name.clone(), clean.get(name)? - value))).collect();
        if let Some((threshold, clean)) = cut {
            let at = inputs::with_scores(rows, |scores| threshold::at_threshold(scores, threshold));
            let accuracy = at.get("accuracy").copied().unwrap_or(f64::NAN);
            metrics.insert("accuracy_at_threshold".into(), accuracy);
            drop.insert("accuracy_at_threshold".into(), clean - accuracy);
        }
        Ok(Self { damage, level, metrics, drop })
    }

    pub fn name(&self) -> String {
        format!("{} {}", self.damage, self.level)
    }

    /// Metrics and drops in one list.
    pub fn values(&self) -> Values {
        let drops = self.drop.iter().map(|(name, value)| (format!("{name}_drop"), *value));
        self.metrics.clone().into_iter().chain(drops).collect()
    }
}

impl Robustness {
    /// A row for every cell: each metric and how much of it is lost.
    pub fn table(&self) -> String {
        let names = [("auc", "auc"), ("accuracy", "accuracy"), ("accuracy_at_threshold", "at threshold")];
        let there = |name: &str| self.cells.iter().any(|cell| cell.metrics.contains_key(name));
        let shown: Vec<_> = names.into_iter().filter(|(name, _)| there(name)).collect();
        let mut text = format!("\n{:<24}", "damage");
        shown.iter().for_each(|(_, title)| text += &format!(" {title:>12} {:>8}", "drop"));
        let mut last = "";
        for at in &self.cells {
            text += if at.damage == last || last.is_empty() { "\n" } else { "\n\n" };
            text += &format!("{:<24}", at.name());
            for (name, _) in &shown {
                let values = [&at.metrics, &at.drop].map(|values| cell(values.get(*name)));
                text += &format!(" {:>12} {:>8}", values[0], values[1]);
            }
            last = at.damage;
        }
        text + "\n"
    }
}
