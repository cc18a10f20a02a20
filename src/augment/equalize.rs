use super::{Augment, Context, change::Change, policy::Op};
use crate::tensor::Rng;
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
    fn changes(&self, _: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        rng.chance(self.p).then_some(Change::step(Op::Equalize, 0.0)).into_iter().collect()
    }
}
