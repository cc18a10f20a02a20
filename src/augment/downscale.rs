use super::{
    Augment, Context,
    change::Change,
    span::{Span, within},
};
use crate::tensor::{Interpolation, Rng};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes the image smaller by a random factor and as large as before again: it loses detail. Both by Pillow's `resize`,
/// bit for bit. albumentations' `Downscale`, whose own defaults are a scale of 0.25, nearest neighbours and `p = 0.5`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Downscale {
    /// Share of the width and height that is left in between, or the two of `[low, high]` to draw between.
    #[garde(custom(within(1e-3, 1.0)))]
    pub scale: Span<f64>,
    /// Filter for making it smaller.
    #[garde(skip)]
    pub down: Interpolation,
    /// Filter for making it larger.
    #[garde(skip)]
    pub up: Interpolation,
    /// Probability of the change.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for Downscale {
    fn default() -> Self {
        let filter = Interpolation::Bilinear;
        Self { scale: Span::Between([0.25, 0.5]), down: filter, up: filter, p: 1.0 }
    }
}

impl Augment for Downscale {
    fn changes(&self, size: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        let changes = rng.chance(self.p).then(|| self.at(size, self.scale.draw(rng)));
        changes.into_iter().flatten().collect()
    }
}

impl Downscale {
    /// What brings an image of this width and height to a scale and back.
    pub fn at(&self, size: [usize; 2], scale: f64) -> [Change; 2] {
        let small = size.map(|side| ((side as f64 * scale).round_ties_even() as usize).max(1));
        [Change::Resize(small, self.down), Change::Resize(size, self.up)]
    }
}
