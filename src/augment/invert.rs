use super::{Augment, Context, change::Change, policy::Op};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Replaces each level by 255 minus it, with probability `p`. torchvision's `RandomInvert` on PIL images, bit for bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Invert {
    /// Probability of the change.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for Invert {
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

impl Augment for Invert {
    fn changes(&self, _: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        rng.chance(self.p).then_some(Change::step(Op::Invert, 0.0)).into_iter().collect()
    }
}
