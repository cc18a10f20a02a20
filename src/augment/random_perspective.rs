use super::{
    Augment, Context,
    change::Change,
    warp::{self, Filter},
};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Moves the four corners of an image inwards by random amounts. torchvision's `RandomPerspective` on PIL images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct RandomPerspective {
    /// How far a corner moves at most, as a share of half the width and half the height.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub distortion_scale: f64,
    /// Probability that an image is changed.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
    /// How a pixel between pixels is read.
    #[garde(skip)]
    pub interpolation: Filter,
    /// Colour of what comes in from outside, 8-bit RGB.
    #[garde(skip)]
    pub fill: [u8; 3],
}

impl Default for RandomPerspective {
    fn default() -> Self {
        Self { distortion_scale: 0.5, p: 0.5, interpolation: Filter::Bilinear, fill: [0; 3] }
    }
}

impl Augment for RandomPerspective {
    fn changes(&self, size: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        if !rng.chance(self.p) {
            return Vec::new();
        }
        // Corners on one line leave nothing to see through: such an image, a few pixels large, stays.
        let map = warp::perspective(corners(size), self.corners(size, rng));
        map.map(|map| Change::Warp(map, self.interpolation, self.fill)).into_iter().collect()
    }
}

/// The corner pixels, clockwise from the upper left.
fn corners([width, height]: [usize; 2]) -> [[f64; 2]; 4] {
    let (right, bottom) = (width as f64 - 1.0, height as f64 - 1.0);
    [[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]]
}

impl RandomPerspective {
    /// Where the corners go, clockwise from the upper left: whole pixels, as torchvision.
    pub fn corners(&self, size: [usize; 2], rng: &mut Rng) -> [[f64; 2]; 4] {
        let most = size.map(|length| (self.distortion_scale * (length / 2) as f64) as usize);
        let [right, bottom] = size.map(|length| length as f64 - 1.0);
        let mut inwards = || most.map(|most| rng.below(most + 1) as f64);
        let [a, b, c, d] = [inwards(), inwards(), inwards(), inwards()];
        [a, [right - b[0], b[1]], [right - c[0], bottom - c[1]], [d[0], bottom - d[1]]]
    }
}
