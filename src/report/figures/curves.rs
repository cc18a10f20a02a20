//! Learning curves: the mean over seeds, and a band of one standard deviation.

use super::{
    axes::{Axes, Label, Scale, beside, short},
    canvas::{At, Canvas, Drawing},
};
use crate::{
    error::Result,
    report::{statistics, study::Curve},
};
use plotters::prelude::{Color, DrawingBackend, RGBColor};
use std::collections::BTreeMap;

/// Curves over epochs.
pub struct Curves {
    pub y_name: String,
    pub lines: Vec<Line>,
    pub size: (u32, u32),
}

/// The curve of one experiment.
pub struct Line {
    /// Written beside its end; empty for none.
    pub name: String,
    pub colour: RGBColor,
    pub dashed: bool,
    pub points: Vec<Spot>,
}

/// The mean over seeds at one epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spot {
    pub epoch: u32,
    pub mean: f64,
    pub sd: Option<f64>,
}

/// The mean over runs at every epoch that all of them have: no jump where one ends earlier.
pub fn over_seeds(curves: &[&Curve]) -> Vec<Spot> {
    let mut at = BTreeMap::<u32, Vec<f64>>::new();
    for (epoch, value) in curves.iter().flat_map(|curve| curve.iter()) {
        if value.is_finite() {
            at.entry(*epoch).or_default().push(*value);
        }
    }
    let whole = at.into_iter().filter(|(_, values)| values.len() == curves.len());
    whole
        .filter_map(|(epoch, values)| {
            Some(Spot { epoch, mean: statistics::mean(&values)?, sd: statistics::sd(&values) })
        })
        .collect()
}

impl Curves {
    fn axes(&self) -> Axes {
        let (width, height) = (f64::from(self.size.0), f64::from(self.size.1));
        let spots = || self.lines.iter().flat_map(|line| &line.points);
        let low = spots().map(|spot| spot.mean - spot.sd.unwrap_or(0.0)).fold(f64::INFINITY, f64::min);
        let high = spots().map(|spot| spot.mean + spot.sd.unwrap_or(0.0)).fold(f64::NEG_INFINITY, f64::max);
        let (first, last) = (spots().map(|spot| spot.epoch).min(), spots().map(|spot| spot.epoch).max());
        let x = Scale::whole(first.unwrap_or(0), last.unwrap_or(1), 10);
        Axes { left: 56.0, top: 44.0, right: width - 190.0, bottom: height - 52.0, x, y: Scale::around(low, high, 5) }
    }
}

impl Drawing for Curves {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Result<()> {
        let axes = self.axes();
        axes.draw(canvas, "epoch", &self.y_name)?;
        for line in &self.lines {
            line.band(canvas, &axes)?;
        }
        let mut labels = Vec::new();
        for line in &self.lines {
            let Some(end) = line.draw(canvas, &axes)? else { continue };
            if !line.name.is_empty() {
                labels.push(Label { text: short(&line.name, 24), colour: line.colour, at: end });
            }
        }
        beside(canvas, &mut labels, axes.right + 16.0, axes.top, axes.bottom)
    }
}

impl Line {
    fn band<B: DrawingBackend>(&self, canvas: &Canvas<B>, axes: &Axes) -> Result<()> {
        let edge = |side: f64| {
            self.points.iter().filter_map(move |spot| Some((f64::from(spot.epoch), spot.mean + side * spot.sd?)))
        };
        let upper: Vec<At> = edge(1.0).collect();
        let around = upper.iter().copied().chain(edge(-1.0).collect::<Vec<_>>().into_iter().rev());
        if upper.len() > 1 { canvas.polygon(&axes.all(around), self.colour.mix(0.15)) } else { Ok(()) }
    }

    /// Draws the mean; returns where it ends.
    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<B>, axes: &Axes) -> Result<Option<At>> {
        let points = axes.all(self.points.iter().map(|spot| (f64::from(spot.epoch), spot.mean)));
        if self.dashed {
            canvas.dashed(&points, self.colour, 1.5)?;
        } else {
            canvas.line(&points, self.colour, 2.0)?;
        }
        let Some(end) = points.last().copied() else { return Ok(None) };
        canvas.dot(end, 3.0, self.colour)?;
        Ok(Some(end))
    }
}
