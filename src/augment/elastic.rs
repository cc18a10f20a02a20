use super::{Augment, Context, change::Change, frame::PaddingMode};
use crate::tensor::{Image, Rng};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Moves each pixel by smooth noise. torchvision's `ElasticTransform` with bilinear interpolation; Simard et al. 2003.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Elastic {
    /// Strength: noise of -1..1 moves a pixel by half as many pixels, before smoothing.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub alpha: f64,
    /// Smoothness: standard deviation of the Gaussian blur of the noise, in pixels; 0 does not blur.
    #[garde(range(min = 0.0, max = 100.0))]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub sigma: f64,
    /// Colour of what comes in from outside, 8-bit RGB.
    #[garde(skip)]
    pub fill: [u8; 3],
}

impl Default for Elastic {
    fn default() -> Self {
        Self { alpha: 50.0, sigma: 5.0, fill: [0; 3] }
    }
}

impl Augment for Elastic {
    fn changes(&self, [width, height]: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        let change = Change::Elastic(self.clone(), rng.clone());
        rng.skip_uniforms(2 * width * height);
        vec![change]
    }
}

impl Elastic {
    /// Moves by noise of these random numbers: that along x first.
    pub fn bend(&self, image: &mut Image, mut rng: Rng) {
        let count = image.width * image.height;
        let noise = [0, 1].map(|_| (0..count).map(|_| rng.range(-1.0, 1.0) as f32).collect());
        self.displace(image, noise);
    }

    /// Moves by this noise of -1..1 along x and along y, a value a pixel.
    pub fn displace(&self, image: &mut Image, noise: [Vec<f32>; 2]) {
        let kernel = self.kernel();
        let smooth = noise.map(|noise| blurred(noise, image.width, &kernel));
        let strength = self.strength();
        let source = image.clone();
        for (at, pixel) in image.pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let x = (at % source.width) as f32 + smooth[0][at] * strength;
            let y = (at / source.width) as f32 + smooth[1][at] * strength;
            *pixel = read(&source, x, y, self.fill);
        }
    }

    /// Pixels by noise: a coordinate of `grid_sample` runs over two units from border to border.
    pub(super) fn strength(&self) -> f32 {
        self.alpha as f32 / 2.0
    }

    /// Weights of torchvision's `gaussian_blur` with the kernel size that `ElasticTransform` chooses.
    pub(super) fn kernel(&self) -> Vec<f32> {
        if self.sigma == 0.0 {
            return vec![1.0];
        }
        let half = (8.0 * self.sigma + 1.0) as i32 / 2;
        let weights: Vec<f64> = (-half..=half).map(|x| (-0.5 * (f64::from(x) / self.sigma).powi(2)).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|weight| (weight / sum) as f32).collect()
    }
}

/// Blurs rows, then columns, mirrored at the borders.
fn blurred(values: Vec<f32>, width: usize, kernel: &[f32]) -> Vec<f32> {
    if kernel.len() == 1 {
        return values;
    }
    let height = values.len() / width.max(1);
    let half = (kernel.len() / 2) as isize;
    let places = |size: usize| -> Vec<usize> {
        (-half..size as isize + half).filter_map(|at| PaddingMode::Reflect.source(at, size)).collect()
    };
    let (columns, rows) = (places(width), places(height));
    let mut across = Vec::with_capacity(values.len());
    let mut wide = Vec::with_capacity(columns.len());
    for row in values.chunks_exact(width.max(1)) {
        wide.clear();
        wide.extend(columns.iter().map(|&column| row[column]));
        across.extend(wide.windows(kernel.len()).map(|part| part.iter().zip(kernel).map(|(v, k)| v * k).sum::<f32>()));
    }
    let mut out = vec![0.0; values.len()];
    for (line, rows) in out.chunks_exact_mut(width.max(1)).zip(rows.windows(kernel.len())) {
        for (&row, weight) in rows.iter().zip(kernel) {
            let row = &across[row * width..(row + 1) * width];
            line.iter_mut().zip(row).for_each(|(out, value)| *out += value * weight);
        }
    }
    out
}

/// `grid_sample` with zeros outside, as torchvision blends it with the fill: by the share that lies inside, once more.
fn read(image: &Image, x: f32, y: f32, fill: [u8; 3]) -> [u8; 3] {
    let (left, top) = (x.floor(), y.floor());
    let (dx, dy) = (x - left, y - top);
    let (mut sum, mut inside) = ([0.0f32; 3], 0.0f32);
    for (x, y, weight) in [
        (left, top, (1.0 - dx) * (1.0 - dy)),
        (left + 1.0, top, dx * (1.0 - dy)),
        (left, top + 1.0, (1.0 - dx) * dy),
        (left + 1.0, top + 1.0, dx * dy),
    ] {
        if x >= 0.0 && y >= 0.0 && (x as usize) < image.width && (y as usize) < image.height {
            let pixel = image.pixel(x as usize, y as usize);
            (0..3).for_each(|channel| sum[channel] += weight * f32::from(pixel[channel]));
            inside += weight;
        }
    }
    std::array::from_fn(|channel| {
        let value = sum[channel] * inside + (1.0 - inside) * f32::from(fill[channel]);
        value.round_ties_even() as u8
    })
}
