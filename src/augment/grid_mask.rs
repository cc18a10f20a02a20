use super::{
    Augment, Context,
    change::Change,
    warp::{self, Filter},
};
use crate::tensor::{Image, Rng};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Erases a turned grid of squares. Chen et al. 2020, arXiv:2001.04086, after the authors' code, which erases normalized
/// images with 0: here `input.mean`. Their probability grows over the epochs; here it stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct GridMask {
    /// Least and largest distance from square to square, in pixels.
    #[garde(inner(range(min = 2, max = 4096)), custom(super::limits::ordered))]
    #[schemars(inner(range(min = 2, max = 4096)))]
    pub d: [usize; 2],
    /// The grid is turned by a whole number of degrees below this.
    #[garde(range(min = 1, max = 360))]
    #[schemars(range(min = 1, max = 360))]
    pub rotate: usize,
    /// Width of the bars by the distance from one to the next.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio: f64,
    /// What is erased.
    #[garde(skip)]
    pub mode: Erased,
    /// Probability that an image is changed.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
    /// Colour, 8-bit RGB; default: `input.mean`, which is 0 after normalization.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub fill: Option<[u8; 3]>,
}

/// Which part of the grid is erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Erased {
    /// The bars, rows and columns: mode 0 of the authors' code.
    Bars,
    /// The squares between them: mode 1, the paper's.
    #[default]
    Squares,
}

impl Default for GridMask {
    /// The paper's for ImageNet at 224 pixels.
    fn default() -> Self {
        Self { d: [96, 224], rotate: 360, ratio: 0.6, mode: Erased::Squares, p: 0.8, fill: None }
    }
}

/// Where a grid lies: the distance of its bars, where the first row and the first column start, and its angle in degrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub d: usize,
    pub start: [usize; 2],
    pub angle: usize,
}

impl Augment for GridMask {
    fn changes(&self, _: [usize; 2], context: &Context, rng: &mut Rng) -> Vec<Change> {
        if !rng.chance(self.p) {
            return Vec::new();
        }
        let d = self.d[0] + rng.below((self.d[1] - self.d[0]).max(1));
        let grid = Grid { d, start: [rng.below(d), rng.below(d)], angle: rng.below(self.rotate) };
        vec![Change::Grid(self.clone(), grid, self.fill.unwrap_or_else(|| context.colour([0.0; 3])))]
    }
}

impl GridMask {
    /// The size of the grid of an image of this size: larger, so that a turn leaves no corner bare.
    pub(super) fn canvas(&self, size: [usize; 2]) -> [usize; 2] {
        size.map(|length| length * 3 / 2)
    }

    /// The width of a bar, in pixels.
    pub(super) fn bar(&self, grid: Grid) -> usize {
        (grid.d as f64 * self.ratio + 0.5) as usize
    }

    /// Erases this grid.
    pub fn erase(&self, image: &mut Image, grid: Grid, fill: [u8; 3]) {
        let [width, height] = self.canvas([image.width, image.height]);
        let bar = self.bar(grid);
        let in_bar = |start: usize| move |at: usize| (at + grid.d - start) % grid.d < bar;
        let rows: Vec<bool> = (0..height).map(in_bar(grid.start[0])).collect();
        let columns: Vec<bool> = (0..width).map(in_bar(grid.start[1])).collect();
        let mut mask = Image::new(width, height);
        for (line, row) in mask.pixels.chunks_exact_mut(width.max(1) * 3).zip(rows) {
            line.as_chunks_mut::<3>()
                .0
                .iter_mut()
                .zip(&columns)
                .for_each(|(out, column)| *out = [u8::from(!(row || *column)); 3]);
        }
        let mask = warp::rotate(&mask, grid.angle as f64, Filter::Nearest, None, [0; 3]);
        let [left, top] = [(width - image.width) / 2, (height - image.height) / 2];
        let erased = u8::from(self.mode == Erased::Squares);
        for (y, row) in image.pixels.chunks_exact_mut(image.width.max(1) * 3).enumerate() {
            for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                if mask.pixel(x + left, y + top)[0] == erased {
                    *pixel = fill;
                }
            }
        }
    }
}
