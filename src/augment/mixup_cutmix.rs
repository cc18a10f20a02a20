use super::{
    Augment, Scope,
    cutmix::Area,
    mixing::{Mix, Mixing, Pairing, draw_share},
};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mixes by mixup or by cutmix, whichever is drawn. timm's `Mixup`; its label smoothing is the loss's here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct MixupCutmix {
    /// Shape of the distribution of mixup's weights, Beta(alpha, alpha).
    #[garde(range(min = 1e-3))]
    #[schemars(range(min = 1e-3))]
    pub mixup_alpha: f64,
    /// Likewise of the area that cutmix keeps.
    #[garde(range(min = 1e-3))]
    #[schemars(range(min = 1e-3))]
    pub cutmix_alpha: f64,
    /// Probability that a batch, a pair or an image is mixed.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub prob: f64,
    /// Probability of cutmix where something is mixed.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub switch_prob: f64,
    /// What draws are made for.
    #[garde(skip)]
    pub mode: Mode,
    /// Gives targets the area that a box really has after it is cut off at the border.
    #[garde(skip)]
    pub correct_lam: bool,
}

/// What shares one draw; each image meets the one as far from the other end of the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The whole batch.
    #[default]
    Batch,
    /// Two images that meet.
    Pair,
    /// Nothing: each image has its own.
    Elem,
}

impl Default for MixupCutmix {
    /// timm's training script with `--mixup 0.8 --cutmix 1.0`, the published recipes' setting; timm's own defaults are
    /// mixup with 1.0 alone.
    fn default() -> Self {
        Self { mixup_alpha: 0.8, cutmix_alpha: 1.0, prob: 1.0, switch_prob: 0.5, mode: Mode::Batch, correct_lam: true }
    }
}

impl Augment for MixupCutmix {
    fn scope(&self) -> Scope {
        Scope::Batch
    }

    fn mixes(&self, samples: usize, size: [usize; 2], rng: &mut Rng) -> Vec<Mixing> {
        vec![(Pairing::Flip, self.draw(samples, size, rng))]
    }
}

impl MixupCutmix {
    /// A mix for each image.
    pub fn draw(&self, count: usize, [width, height]: [usize; 2], rng: &mut Rng) -> Vec<Mix> {
        let mut draw = || self.draw_one(width, height, rng);
        match self.mode {
            Mode::Batch => vec![draw(); count],
            Mode::Elem => (0..count).map(|_| draw()).collect(),
            Mode::Pair => {
                let mut mixes: Vec<Mix> = (0..count.div_ceil(2)).map(|_| draw()).collect();
                let mirrored: Vec<Mix> = mixes.iter().rev().skip(count % 2).copied().collect();
                mixes.extend(mirrored);
                mixes
            }
        }
    }

    fn draw_one(&self, width: usize, height: usize, rng: &mut Rng) -> Mix {
        if !rng.chance(self.prob) {
            return Mix::Nothing;
        }
        if !rng.chance(self.switch_prob) {
            return Mix::Average(draw_share(self.mixup_alpha, rng));
        }
        let share = draw_share(self.cutmix_alpha, rng);
        let y = rng.below(height);
        let area = Area::whole_around([rng.below(width), y], share, width, height);
        Mix::Paste(if self.correct_lam { area.rest(width, height) } else { share }, area)
    }
}
