use super::{Augment, Context, change::Change, color_jitter::Amount, warp::Filter};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Turns each image by a random angle, counter-clockwise, without changing its size. torchvision's `RandomRotation` on PIL
/// images, bit for bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct RandomRotation {
    /// Between `-x` and `x` degrees, or between the two of `[low, high]`. torchvision has no default.
    #[garde(custom(super::limits::span))]
    pub degrees: Amount,
    /// How a pixel between pixels is read.
    #[garde(skip)]
    pub interpolation: Filter,
    /// The point that stays, `[x, y]` in pixels; default: the middle.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub center: Option<[f64; 2]>,
    /// Colour of what comes in from outside, 8-bit RGB.
    #[garde(skip)]
    pub fill: [u8; 3],
}

impl Default for RandomRotation {
    fn default() -> Self {
        Self { degrees: Amount::Around(10.0), interpolation: Filter::Nearest, center: None, fill: [0; 3] }
    }
}

impl Augment for RandomRotation {
    fn changes(&self, _: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        let [low, high] = self.degrees.turns();
        let (angle, filter) = (rng.range(low, high), self.interpolation);
        vec![Change::Rotate { angle, filter, center: self.center, fill: self.fill }]
    }
}
