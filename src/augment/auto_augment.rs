use super::{
    Augment, Context,
    auto_augment_policies::{CIFAR10, Choice, IMAGENET, SVHN},
    change::Change,
    policy::{Canvas, Space, Step},
    warp::Filter,
};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Applies one of 25 learned pairs of operations, each with its own probability and strength. torchvision's
/// `AutoAugment` on PIL images. Cubuk et al. 2019, arXiv:1805.09501.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct AutoAugment {
    /// The data set that the pairs were learned on.
    #[garde(skip)]
    pub policy: Policy,
    /// How a moved image is read.
    #[garde(skip)]
    pub interpolation: Filter,
    /// Colour of the area that a moved image leaves.
    #[garde(skip)]
    pub fill: [u8; 3],
}

/// The data set that a policy was learned on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    #[default]
    ImageNet,
    Cifar10,
    Svhn,
}

impl Policy {
    pub fn pairs(self) -> &'static [[Choice; 2]; 25] {
        match self {
            Self::ImageNet => &IMAGENET,
            Self::Cifar10 => &CIFAR10,
            Self::Svhn => &SVHN,
        }
    }
}

impl AutoAugment {
    /// The operations for an image of this width and height.
    pub fn draw(&self, size: [usize; 2], rng: &mut Rng) -> Vec<Step> {
        let pairs = self.policy.pairs();
        let pair = pairs[rng.below(pairs.len())];
        let steps = pair.map(|(op, p, bin)| {
            let step = Space::standard(10).step(op, bin, rng.chance(0.5), size);
            rng.chance(p).then_some(step)
        });
        steps.into_iter().flatten().collect()
    }
}

impl Augment for AutoAugment {
    fn changes(&self, size: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        let canvas = Canvas { filter: self.interpolation, fill: self.fill };
        self.draw(size, rng).into_iter().map(|step| Change::Step(step, canvas)).collect()
    }
}
