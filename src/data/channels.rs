//! What a network sees of an image: colours, or colours and what detectors of forgeries add to them.

use serde::{Deserialize, Serialize};

/// The channels of an image, computed from its 8-bit RGB pixels after augmentation.
///
/// The first three are normalized with the input's mean and std, the added ones are of order one by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Luminance and two chrominances, JPEG's full-range YCbCr with Pillow's rounding. Chrominance is where camera and
    /// generator differ. Mean and std are 0.5 unless given.
    Ycbcr,
    /// RGB and three noise residuals of the spatial rich model (Fridrich & Kodovsky 2012): the high-pass kernels of
    /// Zhou et al. 2018, arXiv:1805.04953, on the mean of the colours in 0..255, truncated at +-2. The border repeats.
    Srm,
    /// RGB and three bands of local frequency statistics, after F3-Net (Qian et al. 2020, arXiv:2007.09355): each 8x8
    /// block of the luminance is transformed by the orthonormal DCT-II; a band's pixels hold log10 of one and the sum of
    /// its coefficients' magnitudes. Bands by diagonal u + v: 1 to 4, 5 to 9, 10 to 14. The border repeats.
    Dct,
}

impl Channels {
    pub const fn is_rgb(&self) -> bool {
        matches!(self, Self::Rgb)
    }

    /// As in an experiment file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Ycbcr => "ycbcr",
            Self::Srm => "srm",
            Self::Dct => "dct",
        }
    }

    /// How many there are.
    pub const fn count(self) -> usize {
        match self {
            Self::Rgb | Self::Ycbcr => 3,
            Self::Srm | Self::Dct => 6,
        }
    }

    /// The 8-bit channels that are normalized with mean and std.
    pub fn colours(self, rgb: &[u8]) -> std::borrow::Cow<'_, [u8]> {
        match self {
            Self::Ycbcr => rgb.as_chunks::<3>().0.iter().flat_map(|&pixel| ycbcr(pixel)).collect::<Vec<_>>().into(),
            Self::Rgb | Self::Srm | Self::Dct => rgb.into(),
        }
    }

    /// The channels behind the colours, `(height, width, count - 3)`, of pixels `(height, width, 3)`.
    pub fn added(self, rgb: &[u8], width: usize) -> Vec<[f32; 3]> {
        match self {
            Self::Rgb | Self::Ycbcr => Vec::new(),
            Self::Srm => residuals(rgb, width),
            Self::Dct => bands(rgb, width),
        }
    }
}

/// JPEG's full-range conversion in Pillow's fixed point (`ConvertYCbCr.c`): six bits behind the point, each term rounded as
/// its tables are, towards zero after a half is added.
fn ycbcr([r, g, b]: [u8; 3]) -> [u8; 3] {
    const ONE: f64 = 64.0;
    let part = |factor: f64, value: u8| (factor * ONE * f64::from(value) + 0.5) as i32;
    let sum = |factors: [f64; 3]| part(factors[0], r) + part(factors[1], g) + part(factors[2], b);
    let y = sum([0.299, 0.587, 0.114]) >> 6;
    let cb = (sum([-0.16874, -0.33126, 0.5]) >> 6) + 128;
    let cr = (sum([0.5, -0.41869, -0.08131]) >> 6) + 128;
    [y as u8, cb as u8, cr as u8]
}

/// The high-pass kernels of Zhou et al. 2018, each with its divisor.
#[rustfmt::skip]
const KERNELS: [([[i8; 5]; 5], f32); 3] = [
    ([[0, 0, 0, 0, 0], [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], [0, 0, 0, 0, 0]], 4.0),
    ([[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]], 12.0),
    ([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, -2, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], 2.0),
];

/// The spatial rich model's threshold.
const TRUNCATION: f32 = 2.0;

fn residuals(rgb: &[u8], width: usize) -> Vec<[f32; 3]> {
    let plane = Plane::new(rgb, width, [1.0 / 3.0; 3]);
    let mut residuals = Vec::with_capacity(plane.values.len());
    for y in 0..plane.height {
        for x in 0..width {
            let patch: [[f32; 5]; 5] =
                std::array::from_fn(|a| std::array::from_fn(|b| plane.at((y + a) as isize - 2, (x + b) as isize - 2)));
            residuals.push(KERNELS.map(|(kernel, divisor)| {
                let products = kernel.as_flattened().iter().zip(patch.as_flattened());
                let sum: f32 = products.map(|(&weight, value)| f32::from(weight) * value).sum();
                (sum / divisor).clamp(-TRUNCATION, TRUNCATION)
            }));
        }
    }
    residuals
}

/// Side of a transformed block, in pixels.
const BLOCK: usize = 8;

fn bands(rgb: &[u8], width: usize) -> Vec<[f32; 3]> {
    let plane = Plane::new(rgb, width, [0.299, 0.587, 0.114]);
    let basis = basis();
    let across = width.div_ceil(BLOCK);
    let blocks: Vec<[f32; 3]> = (0..plane.height.div_ceil(BLOCK) * across)
        .map(|block| block_bands(&plane, &basis, [block / across * BLOCK, block % across * BLOCK]))
        .collect();
    let pixels = (0..plane.height).flat_map(|y| (0..width).map(move |x| (y, x)));
    pixels.map(|(y, x)| blocks[y / BLOCK * across + x / BLOCK]).collect()
}

/// The orthonormal DCT-II's, by frequency and place.
fn basis() -> [[f32; BLOCK]; BLOCK] {
    let value = |u: usize, x: usize| {
        let scale = if u == 0 { 1.0 } else { 2f64.sqrt() } / (BLOCK as f64).sqrt();
        let angle = std::f64::consts::PI * (2 * x + 1) as f64 * u as f64 / (2 * BLOCK) as f64;
        (scale * angle.cos()) as f32
    };
    std::array::from_fn(|u| std::array::from_fn(|x| value(u, x)))
}

/// The three bands of the block at `[y, x]`.
fn block_bands(plane: &Plane, basis: &[[f32; BLOCK]; BLOCK], [top, left]: [usize; 2]) -> [f32; 3] {
    let dot = |a: &[f32; BLOCK], b: &[f32; BLOCK]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let row = |y| std::array::from_fn(|x| plane.at((top + y) as isize, (left + x) as isize));
    // By place down and frequency across, then by frequency across and place down, as the second product wants it.
    let rows: [[f32; BLOCK]; BLOCK] = std::array::from_fn(|y| basis.map(|wave| dot(&wave, &row(y))));
    let columns: [[f32; BLOCK]; BLOCK] = std::array::from_fn(|v| rows.map(|row| row[v]));
    let mut sums = [0.0f32; 3];
    for (v, column) in columns.iter().enumerate() {
        for (u, wave) in basis.iter().enumerate() {
            let band = match u + v {
                0 => continue,
                1..=4 => 0,
                5..=9 => 1,
                _ => 2,
            };
            sums[band] += dot(wave, column).abs();
        }
    }
    sums.map(|sum| (1.0 + sum).log10())
}

/// A weighted sum of the colours in 0..255; beyond the border it repeats.
struct Plane {
    values: Vec<f32>,
    width: usize,
    height: usize,
}

impl Plane {
    fn new(rgb: &[u8], width: usize, weights: [f32; 3]) -> Self {
        let grey = |pixel: &[u8; 3]| pixel.iter().zip(weights).map(|(&value, weight)| f32::from(value) * weight).sum();
        let values: Vec<f32> = rgb.as_chunks::<3>().0.iter().map(grey).collect();
        Self { height: values.len() / width.max(1), values, width }
    }

    fn at(&self, y: isize, x: isize) -> f32 {
        let inside = |at: isize, size: usize| at.clamp(0, size as isize - 1) as usize;
        self.values[inside(y, self.height) * self.width + inside(x, self.width)]
    }
}
