use super::{Augment, pillow_levels};
use crate::{
    error::Result,
    tensor::{Image, Rng},
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Stretches each channel until it reaches from 0 to 255, with probability `p`. torchvision's `RandomAutocontrast` on
/// PIL images, bit for bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Autocontrast {
    /// Probability of the change.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for Autocontrast {
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

impl Augment for Autocontrast {
    fn sample(&self, image: &mut Image, rng: &mut Rng) -> Result<()> {
        if rng.chance(self.p) {
            pillow_levels::autocontrast(image);
        }
        Ok(())
    }
}
