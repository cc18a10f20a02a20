//! Confusion matrices, one for each experiment, side by side.

use super::{
    axes::short,
    canvas::{Canvas, Drawing, INK, MUTED, PALETTE},
};
use crate::{error::Result, event::Prediction};
use plotters::{
    prelude::{Color, DrawingBackend},
    style::text_anchor::{HPos, VPos},
};

/// Matrices of the same classes.
pub struct Confusion {
    pub classes: Vec<String>,
    pub matrices: Vec<(String, Vec<Vec<usize>>)>,
}

/// Images by true class (rows) and by the class of the largest score (columns).
pub fn count(predictions: &[Prediction], classes: usize) -> Vec<Vec<usize>> {
    let mut matrix = vec![vec![0; classes]; classes];
    for prediction in predictions {
        let scores = prediction.scores.iter().enumerate();
        let guess = scores.fold((0, f32::NEG_INFINITY), |best, (i, s)| if *s > best.1 { (i, *s) } else { best }).0;
        if let Some(cell) = matrix.get_mut(prediction.target as usize).and_then(|row| row.get_mut(guess)) {
            *cell += 1;
        }
    }
    matrix
}

const LEFT: f64 = 96.0;
const TOP: f64 = 72.0;
const SPACE: f64 = 40.0;

impl Confusion {
    fn cell(&self) -> f64 {
        (240.0 / self.classes.len().max(1) as f64).clamp(14.0, 96.0)
    }

    fn side(&self) -> f64 {
        self.cell() * self.classes.len() as f64
    }

    fn per_row(&self) -> usize {
        self.matrices.len().clamp(1, if self.side() > 250.0 { 1 } else { 2 })
    }

    fn draw_one<B: DrawingBackend>(&self, canvas: &Canvas<B>, index: usize) -> Result<()> {
        let (cell, side) = (self.cell(), self.side());
        let (column, line) = ((index % self.per_row()) as f64, (index / self.per_row()) as f64);
        let (left, top) = (LEFT + column * (LEFT + side + SPACE), TOP + line * (TOP + side + SPACE));
        let (name, matrix) = &self.matrices[index];
        canvas.text(&short(name, 34), (left, top - 52.0), 13.0, INK, (HPos::Left, VPos::Center))?;
        canvas.text("predicted", (left, top - 32.0), 12.0, MUTED, (HPos::Left, VPos::Center))?;
        for (row, counts) in matrix.iter().enumerate() {
            let y = top + row as f64 * cell;
            let all = counts.iter().sum::<usize>().max(1);
            let size = (cell * 0.8).min(12.0);
            let class = short(&self.classes[row], 13);
            canvas.text(&class, (left - 8.0, y + cell / 2.0), size, INK, (HPos::Right, VPos::Center))?;
            if cell >= 30.0 {
                let short = short(&self.classes[row], (cell / 7.0) as usize);
                let x = left + (row as f64 + 0.5) * cell;
                canvas.text(&short, (x, top - 13.0), 12.0, INK, (HPos::Center, VPos::Center))?;
            }
            for (column, count) in counts.iter().enumerate() {
                let share = *count as f64 / all as f64;
                self.draw_cell(canvas, (left + column as f64 * cell, y), *count, share)?;
            }
        }
        Ok(())
    }

    /// Half opacity at most, so that the same ink can be read on every cell, on white and on black.
    fn draw_cell<B: DrawingBackend>(&self, canvas: &Canvas<B>, at: (f64, f64), count: usize, share: f64) -> Result<()> {
        let cell = self.cell();
        let corner = (at.0 + cell - 1.5, at.1 + cell - 1.5);
        canvas.rectangle(at, corner, PALETTE[0].mix(0.04 + 0.46 * share))?;
        let middle = (at.0 + cell / 2.0, at.1 + cell / 2.0);
        if cell >= 56.0 {
            let above = (middle.0, middle.1 - 9.0);
            canvas.text(&count.to_string(), above, 15.0, INK, (HPos::Center, VPos::Center))?;
            let percent = format!("{:.1} %", 100.0 * share);
            return canvas.text(&percent, (middle.0, middle.1 + 10.0), 12.0, INK, (HPos::Center, VPos::Center));
        }
        if cell >= 24.0 {
            canvas.text(&count.to_string(), middle, 11.0, INK, (HPos::Center, VPos::Center))
        } else {
            Ok(())
        }
    }
}

impl Drawing for Confusion {
    fn size(&self) -> (u32, u32) {
        let lines = self.matrices.len().div_ceil(self.per_row()) as f64;
        let width = self.per_row() as f64 * (LEFT + self.side() + SPACE);
        (width.max(320.0) as u32, (lines * (TOP + self.side() + SPACE) - SPACE + 12.0) as u32)
    }

    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Result<()> {
        (0..self.matrices.len()).try_for_each(|index| self.draw_one(canvas, index))
    }
}
