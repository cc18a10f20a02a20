use super::{
    Augment, Batch, Scope,
    mixing::{Mix, Mixing, Pairing, draw_share},
};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Pastes a box of another image into each image and mixes the targets by area; the whole batch shares the box.
/// torchvision's `v2.CutMix`. Yun et al. 2019, arXiv:1905.04899.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Cutmix {
    /// Shape of the distribution of the area that stays, Beta(alpha, alpha).
    #[garde(range(min = 1e-3))]
    #[schemars(range(min = 1e-3))]
    pub alpha: f64,
    /// Probability that a batch is mixed.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
    /// Which image each image's box comes from.
    #[garde(skip)]
    pub pairing: Pairing,
}

impl Default for Cutmix {
    fn default() -> Self {
        Self { alpha: 1.0, p: 1.0, pairing: Pairing::Roll }
    }
}

/// A part of an image, in pixels: from the first to before the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    pub x: [usize; 2],
    pub y: [usize; 2],
}

impl Area {
    /// The box of area `1 - share` around a center, cut off at the border.
    pub fn around(center: [usize; 2], share: f64, width: usize, height: usize) -> Self {
        let half = 0.5 * (1.0 - share).max(0.0).sqrt();
        let span = |center: usize, size: usize| {
            let half = (half * size as f64) as usize;
            [center.saturating_sub(half), (center + half).min(size)]
        };
        Self { x: span(center[0], width), y: span(center[1], height) }
    }

    /// The same as timm cuts it: an odd side keeps its last pixel.
    pub fn whole_around(center: [usize; 2], share: f64, width: usize, height: usize) -> Self {
        let ratio = (1.0 - share).max(0.0).sqrt();
        let span = |center: usize, size: usize| {
            let side = (ratio * size as f64) as usize;
            [center.saturating_sub(side / 2), (center + side.div_ceil(2)).min(size)]
        };
        Self { x: span(center[0], width), y: span(center[1], height) }
    }

    /// The share of an image that lies outside.
    pub fn rest(&self, width: usize, height: usize) -> f64 {
        let pixels = (self.x[1] - self.x[0]) * (self.y[1] - self.y[0]);
        1.0 - pixels as f64 / (width * height).max(1) as f64
    }

    /// Puts all of another image of the same size there, by its nearest pixels, as torch's `interpolate(mode="nearest")`.
    pub(super) fn paste_whole(&self, own: &mut [f32], other: &[f32], [width, height]: [usize; 2], channels: usize) {
        let (columns, rows) = (nearest(width, self.x), nearest(height, self.y));
        for (y, from_y) in (self.y[0]..).zip(&rows) {
            for (x, from_x) in (self.x[0]..).zip(&columns) {
                let (to, from) = ((y * width + x) * channels, (from_y * width + from_x) * channels);
                own[to..to + channels].copy_from_slice(&other[from..from + channels]);
            }
        }
    }

    /// Copies it from another image of the same width and channels.
    pub(super) fn paste(&self, own: &mut [f32], other: &[f32], width: usize, channels: usize) {
        for y in self.y[0]..self.y[1] {
            let row = (y * width + self.x[0]) * channels..(y * width + self.x[1]) * channels;
            own[row.clone()].copy_from_slice(&other[row]);
        }
    }
}

/// Which of `from` samples stands at each place of a span.
fn nearest(from: usize, [first, end]: [usize; 2]) -> Vec<usize> {
    let count = end - first;
    let scale = from as f32 / count as f32;
    (0..count).map(|at| ((at as f32 * scale) as usize).min(from - 1)).collect()
}

impl Augment for Cutmix {
    fn scope(&self) -> Scope {
        Scope::Batch
    }

    fn mixes(&self, samples: usize, [width, height]: [usize; 2], rng: &mut Rng) -> Vec<Mixing> {
        let mix = if rng.chance(self.p) {
            let share = draw_share(self.alpha, rng);
            let center = [rng.below(width), rng.below(height)];
            let area = Area::around(center, share, width, height);
            Mix::Paste(area.rest(width, height), area)
        } else {
            Mix::Nothing
        };
        vec![(self.pairing, vec![mix; samples])]
    }
}

impl Cutmix {
    /// Pastes this box; targets follow the area that it really has.
    pub fn paste(&self, batch: &mut Batch, area: Area) {
        let mix = Mix::Paste(area.rest(batch.width, batch.height), area);
        batch.mix(self.pairing, &vec![mix; batch.samples]);
    }
}
