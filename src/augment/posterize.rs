use super::{Augment, Context, change::Change, policy::Op};
use crate::tensor::Rng;
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
    fn changes(&self, _: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        rng.chance(self.p).then_some(Change::step(Op::Posterize, self.bits.into())).into_iter().collect()
    }
}
