use super::{
    Augment, Scope,
    cutmix::Area,
    mixing::{Mix, Mixing, Pairing},
};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Pastes another image, made smaller, into each image and mixes the targets by area; the whole batch shares the box. Qin
/// et al. 2020, arXiv:2012.11101.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Resizemix {
    /// Least and largest side of the pasted image, as a share of the side of the image.
    #[garde(inner(range(min = 0.0, max = 1.0)), custom(super::limits::ordered))]
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub scope: [f64; 2],
    /// Probability that a batch is mixed.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
    /// Which image is pasted into each image; the authors draw a random one.
    #[garde(skip)]
    pub pairing: Pairing,
}

impl Default for Resizemix {
    fn default() -> Self {
        Self { scope: [0.1, 0.8], p: 1.0, pairing: Pairing::Roll }
    }
}

impl Augment for Resizemix {
    fn scope(&self) -> Scope {
        Scope::Batch
    }

    fn mixes(&self, samples: usize, [width, height]: [usize; 2], rng: &mut Rng) -> Vec<Mixing> {
        let mix = if rng.chance(self.p) {
            let side = rng.range(self.scope[0], self.scope[1]);
            let center = [rng.below(width), rng.below(height)];
            let area = Area::around(center, 1.0 - side * side, width, height);
            Mix::Shrink(area.rest(width, height), area)
        } else {
            Mix::Nothing
        };
        vec![(self.pairing, vec![mix; samples])]
    }
}
