use super::{
    Augment, Context,
    change::Change,
    policy::{Canvas, RAND_AUGMENT_OPS, Space, Step, Translate},
    warp::Filter,
};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Applies one operation of `rand_augment` at a random strength, up to far stronger ones. torchvision's
/// `TrivialAugmentWide` on PIL images. Müller & Hutter 2021, arXiv:2103.10158.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct TrivialAugmentWide {
    /// How many strengths there are from no change on.
    #[garde(range(min = 2))]
    #[schemars(range(min = 2))]
    pub num_magnitude_bins: usize,
    /// How a moved image is read.
    #[garde(skip)]
    pub interpolation: Filter,
    /// Colour of the area that a moved image leaves.
    #[garde(skip)]
    pub fill: [u8; 3],
}

impl Default for TrivialAugmentWide {
    fn default() -> Self {
        Self { num_magnitude_bins: 31, interpolation: Filter::Nearest, fill: [0; 3] }
    }
}

impl TrivialAugmentWide {
    pub fn space(&self) -> Space {
        let translate = Translate::Pixels(32.0);
        Space { bins: self.num_magnitude_bins, shear: 0.99, translate, rotate: 135.0, enhance: 0.99, bits: [8, 2] }
    }

    /// The operation for an image of this width and height.
    pub fn draw(&self, size: [usize; 2], rng: &mut Rng) -> Step {
        let bin = rng.below(self.num_magnitude_bins);
        self.space().draw(&RAND_AUGMENT_OPS, bin, size, rng)
    }
}

impl Augment for TrivialAugmentWide {
    fn changes(&self, size: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        let canvas = Canvas { filter: self.interpolation, fill: self.fill };
        vec![Change::Step(self.draw(size, rng), canvas)]
    }
}
