//! Every seed of every experiment on one axis, with the mean and its interval.

use super::{
    axes::{Axes, Scale, short},
    canvas::{Canvas, Drawing, GRID, INK},
};
use crate::{error::Result, report::statistics};
use plotters::{
    prelude::{Color, DrawingBackend, RGBColor},
    style::text_anchor::{HPos, VPos},
};

/// One row an experiment.
pub struct Seeds {
    pub x_name: String,
    pub rows: Vec<Row>,
}

/// The values of an experiment's seeds.
pub struct Row {
    pub name: String,
    pub colour: RGBColor,
    pub values: Vec<f64>,
    /// What models share; see [`statistics::resampled`].
    pub overlap: f64,
}

const ROW: f64 = 40.0;
const TOP: f64 = 12.0;

impl Row {
    fn interval(&self) -> Option<(f64, f64, f64)> {
        let mean = statistics::mean(&self.values)?;
        let half = statistics::half_width(&self.values, self.overlap).unwrap_or(0.0);
        Some((mean - half, mean, mean + half))
    }
}

impl Seeds {
    fn axes(&self) -> Axes {
        let values = || self.rows.iter().flat_map(|row| &row.values).copied();
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        // An interval over two seeds can be many times wider than the data: it is cut rather than hiding them.
        let room = (high - low).max(0.005);
        let ends = || self.rows.iter().filter_map(Row::interval);
        let low = ends().map(|(from, ..)| from.max(low - room)).fold(low, f64::min);
        let high = ends().map(|(.., to)| to.min(high + room)).fold(high, f64::max);
        let bottom = TOP + ROW * self.rows.len() as f64;
        let flat = Scale::around(0.0, 1.0, 1);
        Axes { left: 190.0, top: TOP, right: 730.0, bottom, x: Scale::around(low, high, 6), y: flat }
    }
}

impl Drawing for Seeds {
    fn size(&self) -> (u32, u32) {
        (760, (TOP + ROW * self.rows.len() as f64 + 56.0) as u32)
    }

    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Result<()> {
        let axes = self.axes();
        for tick in &axes.x.ticks {
            let (x, _) = axes.at((*tick, 0.0));
            canvas.line(&[(x, axes.top), (x, axes.bottom)], GRID, 1.0)?;
        }
        axes.draw_x(canvas, &self.x_name)?;
        for (index, row) in self.rows.iter().enumerate() {
            row.draw(canvas, &axes, TOP + ROW * (index as f64 + 0.5))?;
        }
        Ok(())
    }
}

impl Row {
    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<B>, axes: &Axes, y: f64) -> Result<()> {
        canvas.text(&short(&self.name, 25), (axes.left - 14.0, y), 13.0, INK, (HPos::Right, VPos::Center))?;
        let x = |value: f64| axes.at((value.clamp(axes.x.low, axes.x.high), 0.0)).0;
        let Some((from, mean, to)) = self.interval() else { return Ok(()) };
        if self.values.len() > 1 {
            canvas.line(&[(x(from), y), (x(to), y)], self.colour, 2.0)?;
            for (end, inside) in [(from, from >= axes.x.low), (to, to <= axes.x.high)] {
                if inside {
                    canvas.line(&[(x(end), y - 5.0), (x(end), y + 5.0)], self.colour, 2.0)?;
                }
            }
            canvas.line(&[(x(mean), y - 10.0), (x(mean), y + 10.0)], self.colour, 3.0)?;
        }
        self.values.iter().try_for_each(|value| canvas.dot((x(*value), y), 4.5, self.colour.mix(0.55)))
    }
}
