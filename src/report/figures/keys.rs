//! The metric against each key that a sweep's points differ in, a panel a key.

use super::{
    axes::{Axes, Scale, short},
    canvas::{Canvas, Drawing},
};
use crate::error::Result;
use plotters::prelude::{Color, DrawingBackend, RGBColor};

/// Panels, two in a row, with one vertical scale.
pub struct Keys {
    pub y_name: String,
    pub panels: Vec<Panel>,
}

/// One key.
pub struct Panel {
    pub key: String,
    pub dots: Vec<Dot>,
}

/// One point of the sweep.
#[derive(Clone)]
pub struct Dot {
    /// The key's value, as TOML.
    pub x: String,
    pub y: f64,
    pub colour: RGBColor,
    /// Whether it was given up before its end.
    pub early: bool,
}

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 250.0;

/// More different words than this have no room.
const MOST_WORDS: usize = 8;

impl Panel {
    /// Whether there is something to see: different values, and not too many to be named.
    pub fn is_legible(&self) -> bool {
        let words = self.words().len();
        words > 1 && (self.numbers().is_some() || words <= MOST_WORDS)
    }

    fn numbers(&self) -> Option<Vec<f64>> {
        self.dots.iter().map(|dot| dot.x.parse().ok().filter(|x: &f64| x.is_finite())).collect()
    }

    /// The different values, in the order they come.
    fn words(&self) -> Vec<&str> {
        let mut words: Vec<&str> = Vec::new();
        for dot in &self.dots {
            if !words.contains(&dot.x.as_str()) {
                words.push(&dot.x);
            }
        }
        words
    }

    /// The horizontal scale and where each dot stands on it. Numbers over more than a decade stand by their logarithms.
    fn across(&self) -> (Scale, Vec<f64>) {
        let Some(numbers) = self.numbers() else {
            let words = self.words();
            let place = |dot: &Dot| words.iter().position(|word| *word == dot.x).unwrap_or(0) as f64;
            let at = self.dots.iter().map(place).collect();
            let room = (48 / words.len().max(1)).max(4);
            return (Scale::words(words.iter().map(|word| short(word.trim_matches('"'), room)).collect()), at);
        };
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match low > 0.0 && high / low > 10.0 {
            true => (Scale::log(low, high), numbers.iter().map(|x| x.log10()).collect()),
            false => (Scale::around(low, high, 5), numbers),
        }
    }
}

impl Keys {
    fn heights(&self) -> Scale {
        let values = || self.panels.iter().flat_map(|panel| &panel.dots).map(|dot| dot.y);
        Scale::around(values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max), 4)
    }
}

impl Drawing for Keys {
    fn size(&self) -> (u32, u32) {
        let columns = self.panels.len().clamp(1, 2) as f64;
        ((columns * WIDTH) as u32, (self.panels.len().div_ceil(2) as f64 * HEIGHT) as u32)
    }

    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Result<()> {
        for (index, panel) in self.panels.iter().enumerate() {
            let (left, top) = ((index % 2) as f64 * WIDTH, (index / 2) as f64 * HEIGHT);
            let (x, at) = panel.across();
            let y = self.heights();
            let axes = Axes {
                left: left + 56.0,
                top: top + 44.0,
                right: left + WIDTH - 24.0,
                bottom: top + HEIGHT - 52.0,
                x,
                y,
            };
            axes.draw(canvas, &short(&panel.key, 44), &self.y_name)?;
            // Those that went to the end lie on top.
            for early in [true, false] {
                for (dot, x) in panel.dots.iter().zip(&at).filter(|(dot, _)| dot.early == early) {
                    let (radius, strength) = if early { (3.0, 0.25) } else { (4.5, 0.65) };
                    canvas.dot(axes.at((*x, dot.y)), radius, dot.colour.mix(strength))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(values: &[&str]) -> Panel {
        let dot = |x: &&str| Dot { x: x.to_string(), y: 0.5, colour: RGBColor(0, 0, 0), early: false };
        Panel { key: "k".into(), dots: values.iter().map(dot).collect() }
    }

    #[test]
    fn numbers_words_and_what_cannot_be_shown() {
        assert_eq!(panel(&["1", "3", "2"]).across().1, [1.0, 3.0, 2.0]);
        assert_eq!(panel(&["0.001", "0.1"]).across().1, [-3.0, -1.0]);
        assert_eq!(panel(&["\"a\"", "\"b\"", "\"a\""]).across().1, [0.0, 1.0, 0.0]);
        assert!(!panel(&["1", "1"]).is_legible());
        assert!(!panel(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]).is_legible());
        assert!(panel(&["1", "2", "3", "4", "5", "6", "7", "8", "9"]).is_legible());
    }
}
