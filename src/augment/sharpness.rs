use super::{Augment, filters};
use crate::{
    error::Result,
    tensor::{Image, Rng},
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes the image sharper or softer with probability `p`. torchvision's `RandomAdjustSharpness` on PIL images, bit for
/// bit; the default of `sharpness_factor` is this program's, as torchvision has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Sharpness {
    /// 0 is smoothed, 1 the image, 2 twice as sharp.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub sharpness_factor: f64,
    /// Probability of the change.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for Sharpness {
    fn default() -> Self {
        Self { sharpness_factor: 2.0, p: 0.5 }
    }
}

impl Augment for Sharpness {
    fn sample(&self, image: &mut Image, rng: &mut Rng) -> Result<()> {
        if rng.chance(self.p) {
            filters::adjust_sharpness(image, self.sharpness_factor);
        }
        Ok(())
    }
}
