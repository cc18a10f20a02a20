use super::{
    Augment,
    span::{Span, within},
};
use crate::{
    error::Result,
    tensor::{Image, Interpolation, Rng, resize::resize},
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes the image smaller by a random factor and as large as before again: it loses detail. Both by Pillow's `resize`,
/// bit for bit. albumentations' `Downscale`, whose own defaults are a scale of 0.25, nearest neighbours and `p = 0.5`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Downscale {
    /// Share of the width and height that is left in between, or the two of `[low, high]` to draw between.
    #[garde(custom(within(1e-3, 1.0)))]
    pub scale: Span<f64>,
    /// Filter for making it smaller.
    #[garde(skip)]
    pub down: Interpolation,
    /// Filter for making it larger.
    #[garde(skip)]
    pub up: Interpolation,
    /// Probability of the change.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for Downscale {
    fn default() -> Self {
        let filter = Interpolation::Bilinear;
        Self { scale: Span::Between([0.25, 0.5]), down: filter, up: filter, p: 1.0 }
    }
}

impl Augment for Downscale {
    fn sample(&self, image: &mut Image, rng: &mut Rng) -> Result<()> {
        if rng.chance(self.p) {
            *image = self.at(image, self.scale.draw(rng))?;
        }
        Ok(())
    }
}

impl Downscale {
    /// The image after a stay at this scale.
    pub fn at(&self, image: &Image, scale: f64) -> Result<Image> {
        let shrunk = |side: usize| ((side as f64 * scale).round_ties_even() as usize).max(1);
        let small = resize(image, shrunk(image.width), shrunk(image.height), self.down)?;
        resize(&small, image.width, image.height, self.up)
    }
}
