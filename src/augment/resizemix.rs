use super::{Augment, Batch, Scope, cutmix::Area, mixing::Pairing};
use crate::{error::Result, tensor::Rng};
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

    fn batch(&self, batch: &mut Batch, rng: &mut Rng) -> Result<()> {
        if rng.chance(self.p) {
            let side = rng.range(self.scope[0], self.scope[1]);
            let center = [rng.below(batch.width), rng.below(batch.height)];
            self.paste(batch, Area::around(center, 1.0 - side * side, batch.width, batch.height));
        }
        Ok(())
    }
}

impl Resizemix {
    /// Pastes the whole other image into this box, with the nearest pixels, as torch's `interpolate(mode="nearest")`.
    pub fn paste(&self, batch: &mut Batch, area: Area) {
        let (width, height, channels) = (batch.width, batch.height, batch.channels());
        let (columns, rows) = (nearest(width, area.x), nearest(height, area.y));
        batch.mix_images(self.pairing, |_, own, other| {
            for (y, from_y) in (area.y[0]..).zip(&rows) {
                for (x, from_x) in (area.x[0]..).zip(&columns) {
                    let (to, from) = ((y * width + x) * channels, (from_y * width + from_x) * channels);
                    own[to..to + channels].copy_from_slice(&other[from..from + channels]);
                }
            }
        });
        batch.mix_targets(self.pairing, |_| area.rest(width, height));
    }
}

/// Which of `from` samples stands at each place of a span.
fn nearest(from: usize, [first, end]: [usize; 2]) -> Vec<usize> {
    let count = end - first;
    let scale = from as f32 / count as f32;
    (0..count).map(|at| ((at as f32 * scale) as usize).min(from - 1)).collect()
}
