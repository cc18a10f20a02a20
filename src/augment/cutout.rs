use super::{Augment, Context, change::Change};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Erases squares around random points, cut off at the border. DeVries & Taylor 2017, arXiv:1708.04552, whose code erases
/// normalized images with 0: here `input.mean`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Cutout {
    /// Number of squares.
    #[garde(range(min = 1, max = 1000))]
    #[schemars(range(min = 1, max = 1000))]
    pub n_holes: usize,
    /// Side of a square, in pixels; odd ones lose one, as in the original.
    #[garde(range(min = 2, max = 4096))]
    #[schemars(range(min = 2, max = 4096))]
    pub length: usize,
    /// Colour, 8-bit RGB; default: `input.mean`, which is 0 after normalization.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub fill: Option<[u8; 3]>,
}

impl Default for Cutout {
    /// The paper's for CIFAR-10, whose images have 32 pixels.
    fn default() -> Self {
        Self { n_holes: 1, length: 16, fill: None }
    }
}

impl Augment for Cutout {
    fn changes(&self, size: [usize; 2], context: &Context, rng: &mut Rng) -> Vec<Change> {
        let fill = self.fill.unwrap_or_else(|| context.colour([0.0; 3]));
        let hole = |_| {
            let y = rng.below(size[1]);
            self.hole(size, [rng.below(size[0]), y], fill)
        };
        (0..self.n_holes).map(hole).collect()
    }
}

impl Cutout {
    /// Erases the square around a point of an image of this size.
    pub fn hole(&self, size: [usize; 2], center: [usize; 2], colour: [u8; 3]) -> Change {
        let half = self.length / 2;
        let corner = center.map(|center| center.saturating_sub(half));
        let size = [0, 1].map(|axis| (center[axis] + half).min(size[axis]) - corner[axis]);
        Change::Fill { corner, size, colour }
    }
}
