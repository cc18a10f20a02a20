use super::{Augment, pillow_levels};
use crate::{
    error::Result,
    tensor::{Image, Rng},
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keeps only the upper bits of each level, with probability `p`. torchvision's `RandomPosterize` on PIL images, bit
/// for bit; the default of `bits` is this program's, as torchvision has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Posterize {
    /// How many bits of each channel stay.
    #[garde(range(min = 1, max = 8))]
    #[schemars(range(min = 1, max = 8))]
    pub bits: u32,
    /// Probability of the change.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for Posterize {
    fn default() -> Self {
        Self { bits: 4, p: 0.5 }
    }
}

impl Augment for Posterize {
    fn sample(&self, image: &mut Image, rng: &mut Rng) -> Result<()> {
        if rng.chance(self.p) {
            pillow_levels::posterize(image, self.bits);
        }
        Ok(())
    }
}
