use super::{Augment, Context, change::Change, policy::Op};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Inverts the levels from a threshold on, with probability `p`. torchvision's `RandomSolarize` on PIL images, bit for
/// bit; the default of `threshold` is that of Pillow's `ImageOps.solarize`, as torchvision has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Solarize {
    /// Levels equal to this or above are inverted.
    #[garde(range(min = 0.0, max = 255.0))]
    #[schemars(range(min = 0.0, max = 255.0))]
    pub threshold: f64,
    /// Probability of the change.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for Solarize {
    fn default() -> Self {
        Self { threshold: 128.0, p: 0.5 }
    }
}

impl Augment for Solarize {
    fn changes(&self, _: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        rng.chance(self.p).then_some(Change::step(Op::Solarize, self.threshold)).into_iter().collect()
    }
}
