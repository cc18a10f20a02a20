use super::{
    Augment, Context,
    change::Change,
    color_jitter::Amount,
    warp::{Affine, Filter},
};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Turns, moves, scales and shears each image by random amounts about its middle. torchvision's `RandomAffine` on PIL
/// images, bit for bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct RandomAffine {
    /// Rotation between `-x` and `x` degrees, or between the two of `[low, high]`. torchvision has no default.
    #[garde(custom(super::limits::span))]
    pub degrees: Amount,
    /// Largest share of the width and of the height that an image moves by.
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub translate: [f64; 2],
    /// Least and largest factor of its size.
    #[garde(inner(range(min = 1e-3)), custom(super::limits::ordered))]
    #[schemars(inner(range(min = 1e-3)))]
    pub scale: [f64; 2],
    /// Shear along x between `-x` and `x` degrees, or between the two of `[low, high]`.
    #[garde(custom(super::limits::span))]
    pub shear: Amount,
    /// Likewise along y: the last two numbers of torchvision's `shear` of four.
    #[garde(custom(super::limits::span))]
    pub shear_y: Amount,
    /// How a pixel between pixels is read.
    #[garde(skip)]
    pub interpolation: Filter,
    /// Colour of what comes in from outside, 8-bit RGB.
    #[garde(skip)]
    pub fill: [u8; 3],
}

impl Default for RandomAffine {
    fn default() -> Self {
        Self {
            degrees: Amount::Around(10.0),
            translate: [0.0; 2],
            scale: [1.0; 2],
            shear: Amount::default(),
            shear_y: Amount::default(),
            interpolation: Filter::Nearest,
            fill: [0; 3],
        }
    }
}

impl Augment for RandomAffine {
    fn changes(&self, size: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        vec![Change::Warp(self.draw(size, rng).map(size), self.interpolation, self.fill)]
    }
}

impl RandomAffine {
    /// What to do with an image of this width and height; translations are whole pixels, as torchvision.
    pub fn draw(&self, size: [usize; 2], rng: &mut Rng) -> Affine {
        let mut draw = |[low, high]: [f64; 2]| rng.range(low, high);
        let angle = draw(self.degrees.turns());
        let most = [0, 1].map(|axis| self.translate[axis] * size[axis] as f64);
        let translate = most.map(|most| draw([-most, most]).round_ties_even());
        let scale = draw(self.scale);
        Affine { angle, translate, scale, shear: [draw(self.shear.turns()), draw(self.shear_y.turns())], center: None }
    }
}
