use super::Augment;
use crate::{
    error::Result,
    tensor::{Image, Rng},
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mirrors the image left to right with probability `p`. torchvision's `RandomHorizontalFlip`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct RandomHorizontalFlip {
    /// Probability of the flip.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for RandomHorizontalFlip {
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

impl Augment for RandomHorizontalFlip {
    fn sample(&self, image: &mut Image, rng: &mut Rng) -> Result<()> {
        if rng.chance(self.p) {
            for row in image.pixels.chunks_exact_mut(image.width * 3) {
                row.as_chunks_mut::<3>().0.reverse();
            }
        }
        Ok(())
    }
}
