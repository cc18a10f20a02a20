use super::{Augment, pillow_levels};
use crate::{
    error::Result,
    tensor::{Image, Rng},
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Spreads each channel's levels until all are about as frequent, with probability `p`. torchvision's `RandomEqualize`
/// on PIL images, bit for bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Equalize {
    /// Probability of the change.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for Equalize {
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

impl Augment for Equalize {
    fn sample(&self, image: &mut Image, rng: &mut Rng) -> Result<()> {
        if rng.chance(self.p) {
            pillow_levels::equalize(image);
        }
        Ok(())
    }
}
