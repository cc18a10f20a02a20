use super::Augment;
use crate::{
    error::Result,
    tensor::{Image, Rng},
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mirrors the image top to bottom with probability `p`. torchvision's `RandomVerticalFlip`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct RandomVerticalFlip {
    /// Probability of the flip.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for RandomVerticalFlip {
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

impl Augment for RandomVerticalFlip {
    fn sample(&self, image: &mut Image, rng: &mut Rng) -> Result<()> {
        if rng.chance(self.p) {
            let row = image.width * 3;
            let (top, bottom) = image.pixels.split_at_mut(image.height / 2 * row);
            let bottom = &mut bottom[image.height % 2 * row..];
            for (upper, lower) in top.chunks_exact_mut(row).zip(bottom.chunks_exact_mut(row).rev()) {
                upper.swap_with_slice(lower);
            }
        }
        Ok(())
    }
}
