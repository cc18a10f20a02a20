use super::{Augment, Context, change::Change};
use crate::tensor::Rng;
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
    fn changes(&self, _: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        rng.chance(self.p).then_some(Change::FlipHorizontal).into_iter().collect()
    }
}
