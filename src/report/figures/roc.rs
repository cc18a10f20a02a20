//! Receiver operating characteristic curves.

use super::{
    axes::{Axes, Scale, short},
    canvas::{At, Canvas, Drawing, INK, MUTED},
};
use crate::error::Result;
use plotters::{
    prelude::{DrawingBackend, RGBColor},
    style::text_anchor::{HPos, VPos},
};

/// ROC curves in one square.
pub struct Roc {
    pub lines: Vec<Line>,
}

/// One curve, its name and a second line under the name.
pub struct Line {
    pub name: String,
    pub detail: String,
    pub colour: RGBColor,
    /// False and true positive rate, from (0, 0) to (1, 1).
    pub points: Vec<At>,
}

/// The curve of scores and whether each is a positive; `None` where one of both is missing. Scores that are equal move
/// together, as in scikit-learn's `roc_curve`; points on a straight line are left out.
pub fn curve(mut scored: Vec<(f32, bool)>) -> Option<Vec<At>> {
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = scored.iter().filter(|(_, positive)| *positive).count();
    let (all, none) = (positives as f64, (scored.len() - positives) as f64);
    if positives == 0 || positives == scored.len() {
        return None;
    }
    let (mut hits, mut alarms, mut points) = (0.0, 0.0, vec![(0.0, 0.0)]);
    for group in scored.chunk_by(|a, b| a.0 == b.0) {
        let right = group.iter().filter(|(_, positive)| *positive).count();
        hits += right as f64;
        alarms += (group.len() - right) as f64;
        let next = (alarms / none, hits / all);
        if let [.., before, last] = points.as_slice()
            && straight(*before, *last, next)
        {
            points.pop();
        }
        points.push(next);
    }
    Some(points)
}

fn straight(a: At, b: At, c: At) -> bool {
    ((b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0)).abs() < 1e-12
}

impl Drawing for Roc {
    fn size(&self) -> (u32, u32) {
        (700, 480)
    }

    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Result<()> {
        let unit = Scale::around(0.0, 1.0, 5);
        let axes = Axes { left: 56.0, top: 44.0, right: 436.0, bottom: 424.0, x: unit.clone(), y: unit };
        axes.draw(canvas, "false positive rate", "true positive rate")?;
        canvas.dashed(&axes.all([(0.0, 0.0), (1.0, 1.0)]), MUTED, 1.0)?;
        for (index, line) in self.lines.iter().enumerate() {
            canvas.line(&axes.all(line.points.iter().copied()), line.colour, 2.0)?;
            let (x, y) = (axes.right + 28.0, axes.top + 14.0 + 46.0 * index as f64);
            canvas.line(&[(x, y), (x + 20.0, y)], line.colour, 3.0)?;
            canvas.text(&short(&line.name, 26), (x + 28.0, y), 13.0, INK, (HPos::Left, VPos::Center))?;
            canvas.text(&line.detail, (x + 28.0, y + 18.0), 12.0, MUTED, (HPos::Left, VPos::Center))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_move_together() {
        let scored = vec![(0.9, true), (0.8, false), (0.8, true), (0.1, false)];
        assert_eq!(curve(scored), Some(vec![(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]));
        assert_eq!(curve(vec![(0.5, true)]), None);
        assert_eq!(curve(Vec::new()), None);
        let straight = (0..100).map(|_| (0.5, false)).chain([(0.5, true)]).collect();
        assert_eq!(curve(straight), Some(vec![(0.0, 0.0), (1.0, 1.0)]));
    }
}
