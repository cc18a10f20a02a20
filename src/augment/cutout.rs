use super::{Augment, Context};
use crate::{
    error::Result,
    tensor::{Image, Rng},
};
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
    fn sample_in(&self, image: &mut Image, context: &Context, rng: &mut Rng) -> Result<()> {
        let fill = self.fill.unwrap_or_else(|| context.colour([0.0; 3]));
        for _ in 0..self.n_holes {
            let y = rng.below(image.height);
            self.cut(image, [rng.below(image.width), y], fill);
        }
        Ok(())
    }
}

impl Cutout {
    /// Erases the square around a point.
    pub fn cut(&self, image: &mut Image, center: [usize; 2], fill: [u8; 3]) {
        let half = self.length / 2;
        let span = |center: usize, size: usize| [center.saturating_sub(half), (center + half).min(size)];
        let ([left, right], [top, bottom]) = (span(center[0], image.width), span(center[1], image.height));
        for y in top..bottom {
            let row = (y * image.width + left) * 3..(y * image.width + right) * 3;
            image.pixels[row].as_chunks_mut::<3>().0.fill(fill);
        }
    }
}
