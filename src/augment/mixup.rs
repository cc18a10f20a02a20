use super::{
    Augment, Batch, Scope,
    mixing::{Mix, Mixing, Pairing, draw_share},
};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Averages each image and its target with another one's, with weights from Beta(alpha, alpha) that the whole batch
/// shares. torchvision's `v2.MixUp`. Zhang et al. 2018, arXiv:1710.09412.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Mixup {
    /// Shape of the weights' distribution: below 1 one image dominates, at 1 every weight is alike, above 1 halves are.
    #[garde(range(min = 1e-3))]
    #[schemars(range(min = 1e-3))]
    pub alpha: f64,
    /// Probability that a batch is mixed.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
    /// Which image each image is mixed with.
    #[garde(skip)]
    pub pairing: Pairing,
}

impl Default for Mixup {
    fn default() -> Self {
        Self { alpha: 1.0, p: 1.0, pairing: Pairing::Roll }
    }
}

impl Augment for Mixup {
    fn scope(&self) -> Scope {
        Scope::Batch
    }

    fn mixes(&self, samples: usize, _: [usize; 2], rng: &mut Rng) -> Vec<Mixing> {
        let mix = if rng.chance(self.p) { Mix::Average(draw_share(self.alpha, rng)) } else { Mix::Nothing };
        vec![(self.pairing, vec![mix; samples])]
    }
}

impl Mixup {
    /// Mixes a batch whose images keep this share of themselves.
    pub fn mix(&self, batch: &mut Batch, share: f64) {
        batch.mix(self.pairing, &vec![Mix::Average(share); batch.samples]);
    }
}
