use super::{
    Augment, Context,
    change::Change,
    policy::{Canvas, Op, Space, Step, Translate},
    warp::Filter,
};
use crate::tensor::{Image, Rng};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Averages the image with chains of random operations on it, with random weights. torchvision's `AugMix`, with the
/// operations on bytes that PIL images get (torchvision turns them into tensors first, whose filters round otherwise).
/// Hendrycks et al. 2020, arXiv:1912.02781.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct AugMix {
    /// Strength of the operations: each takes one of this many of the weakest of ten.
    #[garde(range(min = 1, max = 10))]
    #[schemars(range(min = 1, max = 10))]
    pub severity: usize,
    /// How many chains there are.
    #[garde(range(min = 1, max = 100))]
    #[schemars(range(min = 1, max = 100))]
    pub mixture_width: usize,
    /// How many operations a chain has; 0 or less: one to three at random.
    #[garde(range(max = 100))]
    #[schemars(range(max = 100))]
    pub chain_depth: i64,
    /// Shape of the weights' distributions: small ones favour one chain, large ones weigh all alike.
    #[garde(range(min = 1e-3))]
    #[schemars(range(min = 1e-3))]
    pub alpha: f64,
    /// Whether brightness, colour, contrast and sharpness are among the operations.
    #[garde(skip)]
    pub all_ops: bool,
    /// How a moved image is read.
    #[garde(skip)]
    pub interpolation: Filter,
    /// Colour of the area that a moved image leaves.
    #[garde(skip)]
    pub fill: [u8; 3],
}

impl Default for AugMix {
    fn default() -> Self {
        let (severity, mixture_width, chain_depth, alpha) = (3, 3, -1, 1.0);
        let (interpolation, fill) = (Filter::Bilinear, [0; 3]);
        Self { severity, mixture_width, chain_depth, alpha, all_ops: true, interpolation, fill }
    }
}

/// The operations; the last four only with `all_ops`.
pub const OPS: [Op; 13] = [
    Op::ShearX,
    Op::ShearY,
    Op::TranslateX,
    Op::TranslateY,
    Op::Rotate,
    Op::Posterize,
    Op::Solarize,
    Op::AutoContrast,
    Op::Equalize,
    Op::Brightness,
    Op::Color,
    Op::Contrast,
    Op::Sharpness,
];

/// How strong the operations get.
pub const SPACE: Space =
    Space { bins: 10, shear: 0.3, translate: Translate::Share(1.0 / 3.0), rotate: 30.0, enhance: 0.9, bits: [4, 0] };

/// What is mixed: the weight of the image itself, and the chains with theirs.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    pub own: f32,
    pub chains: Vec<(f32, Vec<Step>)>,
}

impl AugMix {
    /// The mixture for an image of this width and height.
    pub fn draw(&self, size: [usize; 2], rng: &mut Rng) -> Mixture {
        let own = rng.beta(self.alpha, self.alpha);
        let shares = dirichlet(self.alpha, self.mixture_width, rng);
        let chain = |share: f64| {
            let depth = if self.chain_depth > 0 { self.chain_depth as usize } else { 1 + rng.below(3) };
            ((share * (1.0 - own)) as f32, (0..depth).map(|_| self.draw_step(size, rng)).collect())
        };
        Mixture { own: own as f32, chains: shares.into_iter().map(chain).collect() }
    }

    fn draw_step(&self, size: [usize; 2], rng: &mut Rng) -> Step {
        let ops = if self.all_ops { &OPS[..] } else { &OPS[..9] };
        let bin = rng.below(self.severity);
        SPACE.draw(ops, bin, size, rng)
    }
}

impl Mixture {
    /// The weighted sum, cut to whole levels.
    pub fn apply(&self, image: &mut Image, canvas: Canvas) {
        let mut sums: Vec<f32> = image.pixels.iter().map(|value| self.own * f32::from(*value)).collect();
        for (weight, steps) in &self.chains {
            let mut changed = image.clone();
            steps.iter().for_each(|step| step.apply(&mut changed, canvas));
            sums.iter_mut().zip(&changed.pixels).for_each(|(sum, value)| *sum += weight * f32::from(*value));
        }
        image.pixels.iter_mut().zip(sums).for_each(|(value, sum)| *value = sum as u8);
    }
}

/// Shares of one from the symmetric Dirichlet distribution.
fn dirichlet(alpha: f64, count: usize, rng: &mut Rng) -> Vec<f64> {
    let parts: Vec<f64> = (0..count).map(|_| rng.gamma(alpha).max(f64::MIN_POSITIVE)).collect();
    let sum: f64 = parts.iter().sum();
    parts.into_iter().map(|part| part / sum).collect()
}

impl Augment for AugMix {
    fn changes(&self, size: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        let canvas = Canvas { filter: self.interpolation, fill: self.fill };
        vec![Change::Mixture(self.draw(size, rng), canvas)]
    }
}
