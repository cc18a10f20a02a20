use super::{Augment, Context, change::Change, policy::Op};
use crate::tensor::Rng;
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
    fn changes(&self, _: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        rng.chance(self.p).then(|| Change::step(Op::Sharpness, self.sharpness_factor)).into_iter().collect()
    }
}
