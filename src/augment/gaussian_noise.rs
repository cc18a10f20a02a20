use super::{Augment, Context, change::Change};
use crate::tensor::{Image, Rng};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adds noise of a normal distribution to each channel of each pixel. torchvision's `v2.GaussianNoise` on bytes: the
/// noise is cut to whole levels towards zero, the sum clipped; `p` is this program's, and at 1 torchvision's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct GaussianNoise {
    /// Mean of the noise; 1 is the whole range from black to white.
    #[garde(range(min = -1.0, max = 1.0))]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub mean: f64,
    /// Standard deviation of the noise, likewise.
    #[garde(range(min = 0.0, max = 10.0))]
    #[schemars(range(min = 0.0, max = 10.0))]
    pub sigma: f64,
    /// Probability of noise.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for GaussianNoise {
    fn default() -> Self {
        Self { mean: 0.0, sigma: 0.1, p: 1.0 }
    }
}

impl Augment for GaussianNoise {
    fn changes(&self, [width, height]: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        if !rng.chance(self.p) {
            return Vec::new();
        }
        let noise = Change::Noise(self.clone(), rng.clone());
        rng.skip_normals((width * height * 3).div_ceil(2));
        vec![noise]
    }
}

impl GaussianNoise {
    /// Noise on every channel of every pixel, by these random numbers.
    pub fn add_to(&self, image: &mut Image, mut rng: Rng) {
        for values in image.pixels.chunks_mut(2) {
            values.iter_mut().zip(rng.normals()).for_each(|(value, normal)| *value = self.add(*value, normal));
        }
    }

    /// Mean and standard deviation in levels.
    pub(super) fn levels(&self) -> [f32; 2] {
        [self.mean, self.sigma].map(|share| (share * 255.0) as f32)
    }

    /// A level with the noise that this standard normal number makes.
    pub fn add(&self, level: u8, normal: f64) -> u8 {
        let [mean, sigma] = self.levels();
        let noise = mean + normal as f32 * sigma;
        (f32::from(level) + noise.trunc()).clamp(0.0, 255.0) as u8
    }
}
