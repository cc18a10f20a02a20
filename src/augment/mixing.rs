//! What mixup and cutmix share: which images meet.

use super::{Batch, cutmix::Area};
use crate::tensor::Rng;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which image each image of a batch is mixed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// The one before it, the first with the last, as torchvision.
    #[default]
    Roll,
    /// The one as far from the other end of the batch, as timm.
    Flip,
}

impl Pairing {
    pub fn partner(self, sample: usize, samples: usize) -> usize {
        match self {
            Self::Roll => (sample + samples - 1) % samples,
            Self::Flip => samples - 1 - sample,
        }
    }
}

/// How one image is mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mix {
    Nothing,
    /// It keeps this share of itself.
    Average(f64),
    /// Its target keeps this share; its partner stands in the box.
    Paste(f64, Area),
    /// Likewise, but all of its partner, made to fit.
    Shrink(f64, Area),
}

/// Which images of a batch meet, and how each is mixed.
pub type Mixing = (Pairing, Vec<Mix>);

impl Mix {
    /// The share of its own target.
    fn share(self) -> f64 {
        match self {
            Self::Nothing => 1.0,
            Self::Average(share) | Self::Paste(share, _) | Self::Shrink(share, _) => share,
        }
    }
}

/// The share that an image keeps of itself: Beta(alpha, alpha).
pub fn draw_share(alpha: f64, rng: &mut Rng) -> f64 {
    rng.beta(alpha, alpha)
}

impl Batch<'_> {
    /// Mixes each image and its target as told.
    pub fn mix(&mut self, pairing: Pairing, mixes: &[Mix]) {
        let (size, channels) = ([self.width, self.height], self.channels());
        let values = self.height * self.width * channels;
        pair_rows(self.images, values, self.samples, pairing, |sample, own, other| match mixes[sample] {
            Mix::Nothing => {}
            Mix::Average(share) => average(own, other, share),
            Mix::Paste(_, area) => area.paste(own, other, size[0], channels),
            Mix::Shrink(_, area) => area.paste_whole(own, other, size, channels),
        });
        mix_targets(self.targets, self.classes, pairing, mixes);
    }
}

/// Mixes the `(samples, classes)` targets of a batch whose images are mixed elsewhere.
pub fn mix_targets(targets: &mut [f32], classes: usize, pairing: Pairing, mixes: &[Mix]) {
    pair_rows(targets, classes, mixes.len(), pairing, |at, own, other| average(own, other, mixes[at].share()));
}

fn pair_rows(
    values: &mut [f32],
    size: usize,
    samples: usize,
    pairing: Pairing,
    mix: impl Fn(usize, &mut [f32], &[f32]) + Sync,
) {
    let before = values.to_vec();
    let rows = values.par_chunks_exact_mut(size.max(1)).enumerate();
    rows.for_each(|(sample, own)| {
        let start = pairing.partner(sample, samples) * size;
        mix(sample, own, &before[start..start + size]);
    });
}

/// `share * own + (1 - share) * other`, rounded as torchvision does.
pub fn average(own: &mut [f32], other: &[f32], share: f64) {
    let (share, rest) = (share as f32, (1.0 - share) as f32);
    own.iter_mut().zip(other).for_each(|(own, other)| *own = rest * other + share * *own);
}
