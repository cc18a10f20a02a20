//! Two axes with round ticks, and labels that do not cover each other.

use super::canvas::{At, Canvas, GRID, INK, MUTED};
use crate::error::Result;
use plotters::{
    prelude::{DrawingBackend, RGBColor},
    style::text_anchor::{HPos, VPos},
};

/// One axis: what it spans and where its ticks are.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<f64>,
    decimals: usize,
    /// What the ticks are called, where not by their numbers.
    names: Vec<String>,
}

impl Scale {
    /// A span with about `wanted` ticks at 1, 2 or 5 times a power of ten, widened to the ticks around the values.
    pub fn around(low: f64, high: f64, wanted: usize) -> Self {
        let (low, high) = if high > low { (low, high) } else { (low - 0.05, high + 0.05) };
        let step = round_step((high - low) / wanted.max(1) as f64);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let ticks: Vec<f64> = (0..=(last - first) as usize).map(|i| (first + i as f64) * step).collect();
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        Self { low: first * step, high: last * step, ticks, decimals, names: Vec::new() }
    }

    /// Whole numbers from `low` to `high`, at most about `wanted` of them named.
    pub fn whole(low: u32, high: u32, wanted: u32) -> Self {
        let step = round_step(f64::from(high.saturating_sub(low)) / f64::from(wanted)).max(1.0) as u32;
        let named = (low..=high).filter(|n| n % step == 0 || (step == 1));
        let ticks: Vec<f64> = named.map(f64::from).collect();
        let (low, high) =
            if high > low { (f64::from(low), f64::from(high)) } else { (f64::from(low) - 1.0, f64::from(low) + 1.0) };
        Self { low, high, ticks, decimals: 0, names: Vec::new() }
    }

    /// The decimal logarithm of positive numbers, with ticks at round ones.
    pub fn log(low: f64, high: f64) -> Self {
        let (low, high) = (low.log10(), high.log10());
        let digits: &[f64] = if high - low > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let room = 0.04 * (high - low).max(0.1);
        let (low, high) = (low - room, high + room);
        let powers = low.floor() as i32..=high.ceil() as i32;
        let round = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
        let round: Vec<f64> = round.filter(|value| (low..=high).contains(&value.log10())).collect();
        let ticks = round.iter().map(|value| value.log10()).collect();
        let name = |value: &f64| match value {
            1e-4..1e5 => format!("{}", (value * 1e9).round() / 1e9),
            _ => format!("{value:.0e}"),
        };
        Self { low, high, ticks, decimals: 0, names: round.iter().map(name).collect() }
    }

    /// One tick for each word, at 0, 1, ..
    pub fn words(words: Vec<String>) -> Self {
        let ticks: Vec<f64> = (0..words.len()).map(|place| place as f64).collect();
        Self { low: -0.5, high: words.len() as f64 - 0.5, ticks, decimals: 0, names: words }
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    fn label(&self, tick: f64) -> String {
        let place = self.ticks.iter().position(|known| *known == tick);
        let name = place.and_then(|place| self.names.get(place)).cloned();
        name.unwrap_or_else(|| crate::report::words::number(tick, self.decimals))
    }
}

fn round_step(raw: f64) -> f64 {
    let power = 10f64.powf(raw.log10().floor());
    let digit = raw / power;
    let round = if digit <= 1.0 + 1e-9 {
        1.0
    } else if digit <= 2.0 + 1e-9 {
        2.0
    } else if digit <= 5.0 + 1e-9 {
        5.0
    } else {
        10.0
    };
    round * power
}

/// A rectangle of the sheet with two axes.
pub struct Axes {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    pub x: Scale,
    pub y: Scale,
}

impl Axes {
    /// Where a value lies on the sheet.
    pub fn at(&self, (x, y): At) -> At {
        let (across, up) = (self.x.share(x), self.y.share(y));
        (self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top))
    }

    pub fn all(&self, points: impl IntoIterator<Item = At>) -> Vec<At> {
        points.into_iter().map(|point| self.at(point)).collect()
    }

    /// Grid lines, tick labels, the name of the x axis below and that of the y axis above its top.
    pub fn draw<B: DrawingBackend>(&self, canvas: &Canvas<B>, x_name: &str, y_name: &str) -> Result<()> {
        for tick in &self.y.ticks {
            let (_, y) = self.at((self.x.low, *tick));
            canvas.line(&[(self.left, y), (self.right, y)], GRID, 1.0)?;
            canvas.text(&self.y.label(*tick), (self.left - 8.0, y), 12.0, MUTED, (HPos::Right, VPos::Center))?;
        }
        self.draw_x(canvas, x_name)?;
        canvas.text(y_name, (self.left, self.top - 22.0), 13.0, INK, (HPos::Left, VPos::Center))
    }

    /// The x axis alone.
    pub fn draw_x<B: DrawingBackend>(&self, canvas: &Canvas<B>, name: &str) -> Result<()> {
        canvas.line(&[(self.left, self.bottom), (self.right, self.bottom)], MUTED, 1.0)?;
        for tick in &self.x.ticks {
            let (x, _) = self.at((*tick, self.y.low));
            canvas.line(&[(x, self.bottom), (x, self.bottom + 4.0)], MUTED, 1.0)?;
            canvas.text(&self.x.label(*tick), (x, self.bottom + 8.0), 12.0, MUTED, (HPos::Center, VPos::Top))?;
        }
        let middle = (self.left + self.right) / 2.0;
        canvas.text(name, (middle, self.bottom + 28.0), 13.0, INK, (HPos::Center, VPos::Top))
    }
}

/// A name for a curve, beside its end.
pub struct Label {
    pub text: String,
    pub colour: RGBColor,
    /// Where the curve ends.
    pub at: At,
}

/// Writes labels to the right of `x`, each as near to its curve's end as the others allow.
pub fn beside<B: DrawingBackend>(
    canvas: &Canvas<B>,
    labels: &mut [Label],
    x: f64,
    top: f64,
    bottom: f64,
) -> Result<()> {
    const GAP: f64 = 17.0;
    labels.sort_by(|a, b| a.at.1.total_cmp(&b.at.1));
    let mut heights: Vec<f64> = Vec::new();
    for label in labels.iter() {
        let lowest = heights.last().map_or(top, |last| last + GAP);
        heights.push(label.at.1.max(lowest));
    }
    let mut ceiling = bottom;
    for height in heights.iter_mut().rev() {
        *height = height.min(ceiling);
        ceiling = *height - GAP;
    }
    for (label, y) in labels.iter().zip(heights) {
        canvas.line(&[(label.at.0 + 5.0, label.at.1), (x - 4.0, y)], GRID, 1.0)?;
        canvas.text(&label.text, (x, y), 13.0, label.colour, (HPos::Left, VPos::Center))?;
    }
    Ok(())
}

/// Text of at most `most` characters. Of what is long the middle is cut out: what tells names apart stands at either end.
pub fn short(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.into();
    }
    let behind = if most < 12 { 0 } else { (most - 1) / 2 };
    let before = most.saturating_sub(1) - behind;
    text.chars().take(before).chain(['…']).chain(text.chars().skip(count - behind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let scale = Scale::around(0.613, 0.957, 5);
        assert!((scale.low - 0.6).abs() < 1e-12 && (scale.high - 1.0).abs() < 1e-12);
        assert_eq!(scale.ticks.len(), 5);
        assert_eq!(scale.label(scale.ticks[1]), "0.7");
        assert_eq!(Scale::around(0.0, 1.0, 5).ticks.len(), 6);
        assert_eq!(Scale::whole(1, 10, 10).ticks.len(), 10);
        assert_eq!(Scale::whole(1, 100, 10).ticks, [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0]);
        assert!(Scale::around(0.5, 0.5, 5).high > 0.5);
    }

    #[test]
    fn logarithmic_ticks_are_round_numbers() {
        let names = |low, high| Scale::log(low, high).names;
        assert_eq!(names(0.0001, 0.1), ["0.0001", "0.001", "0.01", "0.1"]);
        assert_eq!(names(0.003, 0.04), ["0.005", "0.01", "0.02"]);
        assert_eq!(names(1e-6, 1e-3), ["1e-6", "1e-5", "0.0001", "0.001"]);
        let words = Scale::words(vec!["a".into(), "b".into()]);
        assert_eq!((words.label(1.0), words.low, words.high), ("b".into(), -0.5, 1.5));
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!((short("abcdef", 4), short("abcd", 4)), ("abc…".into(), "abcd".into()));
        assert_eq!(short("strong-baseline-without-colour", 13), "strong…colour");
    }
}
