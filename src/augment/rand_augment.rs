use super::{
    Augment, Context,
    change::Change,
    policy::{Canvas, RAND_AUGMENT_OPS, Space, Step},
    policy_timm,
    warp::Filter,
};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Applies random operations of one strength: shear, translation, rotation, brightness, colour, contrast, sharpness,
/// posterize, solarize, autocontrast and equalize. torchvision's `RandAugment` on PIL images; with `mstd` or
/// `increasing` timm's, which has other operations and strengths: `rand-m9-mstd0.5-inc1` is `{ magnitude = 9, mstd =
/// 0.5, increasing = true }`. Cubuk et al. 2020, arXiv:1909.13719.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct RandAugment {
    /// How many operations are applied, one after the other.
    #[garde(range(min = 1, max = 100))]
    #[schemars(range(min = 1, max = 100))]
    pub num_ops: usize,
    /// Strength: a whole number below `num_magnitude_bins`; with timm's operations up to 10.
    #[garde(skip)]
    pub magnitude: usize,
    /// How many strengths there are from no change on; timm's operations do not look at it.
    #[garde(range(min = 2))]
    #[schemars(range(min = 2))]
    pub num_magnitude_bins: usize,
    /// Standard deviation of the strength of each of timm's operations; above 100: the strength is uniform up to
    /// `magnitude`.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mstd: Option<f64>,
    /// Whether timm's operations all get stronger with `magnitude`; there, some do not by default.
    #[garde(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub increasing: Option<bool>,
    /// Probability of each operation; torchvision's 1 or timm's 0.5 unless given.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// How a moved image is read; torchvision's nearest unless given, with timm's operations bilinear or bicubic at
    /// random.
    #[garde(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Filter>,
    /// Colour of the area that a moved image leaves; torchvision's black or timm's gray (128) unless given.
    #[garde(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fill: Option<[u8; 3]>,
}

impl Default for RandAugment {
    fn default() -> Self {
        let (mstd, increasing, p, interpolation, fill) = (None, None, None, None, None);
        Self { num_ops: 2, magnitude: 9, num_magnitude_bins: 31, mstd, increasing, p, interpolation, fill }
    }
}

impl RandAugment {
    fn of_timm(&self) -> bool {
        self.mstd.is_some() || self.increasing.is_some()
    }

    /// The operations for an image of this width and height.
    pub fn draw(&self, size: [usize; 2], rng: &mut Rng) -> Vec<(Step, Canvas)> {
        let p = self.p.unwrap_or(if self.of_timm() { 0.5 } else { 1.0 });
        let steps = (0..self.num_ops).map(|_| {
            let drawn = if self.of_timm() { self.draw_of_timm(size, rng) } else { self.draw_of_torchvision(size, rng) };
            rng.chance(p).then_some(drawn)
        });
        steps.flatten().collect()
    }

    fn draw_of_torchvision(&self, size: [usize; 2], rng: &mut Rng) -> (Step, Canvas) {
        let space = Space::standard(self.num_magnitude_bins);
        let step = space.draw(&RAND_AUGMENT_OPS, self.magnitude, size, rng);
        (step, Canvas { filter: self.interpolation.unwrap_or(Filter::Nearest), fill: self.fill.unwrap_or([0; 3]) })
    }

    fn draw_of_timm(&self, size: [usize; 2], rng: &mut Rng) -> (Step, Canvas) {
        let op = policy_timm::OPS[rng.below(policy_timm::OPS.len())];
        let level = policy_timm::draw_level(self.magnitude as f64, self.mstd.unwrap_or(0.0), rng);
        let step = policy_timm::step(op, level, self.increasing.unwrap_or(false), rng.chance(0.5), size);
        let random = if rng.chance(0.5) { Filter::Bilinear } else { Filter::Bicubic };
        (step, Canvas { filter: self.interpolation.unwrap_or(random), fill: self.fill.unwrap_or([128; 3]) })
    }
}

impl Augment for RandAugment {
    fn changes(&self, size: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        self.draw(size, rng).into_iter().map(|(step, canvas)| Change::Step(step, canvas)).collect()
    }

    fn check(&self, _input_size: usize) -> std::result::Result<(), String> {
        let (magnitude, bins) = (self.magnitude, self.num_magnitude_bins);
        match (self.of_timm(), magnitude) {
            (true, 11..) => Err(format!("magnitude is {magnitude}, but timm's strengths go from 0 to 10")),
            (false, _) if magnitude >= bins => {
                Err(format!("magnitude is {magnitude}, but num_magnitude_bins = {bins} has only 0 to {}", bins - 1))
            }
            _ => Ok(()),
        }
    }
}
