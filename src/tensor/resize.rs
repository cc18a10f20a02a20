//! Resizing as Pillow's `Image.resize` does it: antialiased, 8 bits between the two passes, weights in fixed point with
//! 22 bits. Libraries with narrower weights are faster, but differ from it by one level here and there.

use super::Image;
use crate::error::Result;

/// Pillow's filters, antialiased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    Nearest,
    #[default]
    Bilinear,
    Bicubic,
    Lanczos,
}

/// Bits behind the point of a weight.
const PRECISION: u32 = 22;

/// `image` at `width x height`, bit for bit as Pillow's `image.resize((width, height), interpolation)`.
pub fn resize(image: &Image, width: usize, height: usize, interpolation: Interpolation) -> Result<Image> {
    let Some(filter) = interpolation.filter() else { return Ok(nearest(image, width, height)) };
    let columns = (width != image.width).then(|| filter.windows(image.width, width));
    let rows = (height != image.height).then(|| filter.windows(image.height, height));
    let resized = match (columns, rows) {
        (None, None) => image.clone(),
        (Some(columns), None) => across(image, &columns),
        (None, Some(rows)) => down(image, &rows),
        (Some(columns), Some(rows)) if height_first([image.width, image.height], [width, height]) => {
            across(&down(image, &rows), &columns)
        }
        (Some(columns), Some(rows)) => down(&across(image, &columns), &rows),
    };
    Ok(resized)
}

/// Pillow 13 takes the width first unless the height shrinks by more than twice what the width does; as it rounds in
/// between, the order shows. The rule was measured: tests/golden/resize.py compares over both sides of its edge.
pub fn height_first(from: [usize; 2], to: [usize; 2]) -> bool {
    to[1] < from[1] && 2 * from[0] + to[1] < 2 * to[0] + from[1]
}

/// The most samples of `from` that one of `to` is made of.
pub fn most_weights(from: usize, to: usize, interpolation: Interpolation) -> usize {
    let reach = interpolation.filter().map_or(0.0, |filter| filter.reach);
    (2.0 * reach * (from as f64 / to as f64).max(1.0)).ceil() as usize + 2
}

/// A filter and how far it reaches, in samples of an image that is not made smaller.
struct Filter {
    reach: f64,
    weight: fn(f64) -> f64,
}

/// What one target sample is made of: the first source sample, and a weight for it and each after it.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

impl Interpolation {
    /// `None`: nothing is weighed.
    fn filter(self) -> Option<Filter> {
        match self {
            Self::Nearest => None,
            Self::Bilinear => Some(Filter { reach: 1.0, weight: triangle }),
            Self::Bicubic => Some(Filter { reach: 2.0, weight: cubic }),
            Self::Lanczos => Some(Filter { reach: 3.0, weight: lanczos }),
        }
    }
}

impl Filter {
    /// The windows of one axis, `from` samples to `to`. Making smaller widens the filter: that is the antialiasing.
    fn windows(&self, from: usize, to: usize) -> Vec<Window> {
        let scale = from as f64 / to as f64;
        let width = scale.max(1.0);
        let reach = self.reach * width;
        let window = |index: usize| {
            let centre = (index as f64 + 0.5) * scale;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let end = ((centre + reach + 0.5) as usize).min(from);
            let step = 1.0 / width;
            let weights =
                (first..end).map(|at| (self.weight)(((at - first) as f64 + first as f64 - centre + 0.5) * step));
            Window { first, weights: fixed(&weights.collect::<Vec<f64>>()) }
        };
        (0..to).map(window).collect()
    }
}

/// Weights that sum to one, in fixed point, rounded away from zero at halves.
fn fixed(weights: &[f64]) -> Vec<i32> {
    let sum: f64 = weights.iter().sum();
    let norm = |weight: f64| if sum == 0.0 { weight } else { weight / sum };
    let round = |weight: f64| (weight * f64::from(1 << PRECISION) + 0.5f64.copysign(weight)) as i32;
    weights.iter().map(|&weight| round(norm(weight))).collect()
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Keys 1981 with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    match x {
        x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

/// Lanczos with three lobes.
fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

fn across(image: &Image, windows: &[Window]) -> Image {
    let mut pixels = Vec::with_capacity(windows.len() * image.height * 3);
    for row in image.pixels.chunks_exact(image.width * 3) {
        for Window { first, weights } in windows {
            let mut sums = [HALF; 3];
            for (pixel, weight) in row[first * 3..].chunks_exact(3).zip(weights) {
                (0..3).for_each(|c| sums[c] += i32::from(pixel[c]) * weight);
            }
            pixels.extend(sums.map(level));
        }
    }
    Image { width: windows.len(), height: image.height, pixels }
}

fn down(image: &Image, windows: &[Window]) -> Image {
    let line = image.width * 3;
    let mut pixels = Vec::with_capacity(windows.len() * line);
    let mut sums = vec![HALF; line];
    for Window { first, weights } in windows {
        sums.fill(HALF);
        for (row, weight) in image.pixels[first * line..].chunks_exact(line).zip(weights) {
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += i32::from(value) * weight);
        }
        pixels.extend(sums.iter().copied().map(level));
    }
    Image { width: image.width, height: windows.len(), pixels }
}

/// One half, so that cutting off the fraction rounds.
const HALF: i32 = 1 << (PRECISION - 1);

fn level(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Pillow's nearest neighbour: positions are summed up, not multiplied, so that the same rounding decides.
fn nearest(image: &Image, width: usize, height: usize) -> Image {
    let (columns, rows) = (positions(image.width, width), positions(image.height, height));
    let mut resized = Image::new(width, height);
    for (y, &from_y) in rows.iter().enumerate() {
        for (x, &from_x) in columns.iter().enumerate() {
            resized.set_pixel(x, y, image.pixel(from_x, from_y));
        }
    }
    resized
}

fn positions(from: usize, to: usize) -> Vec<usize> {
    let scale = from as f64 / to as f64;
    let mut at = scale * 0.5;
    (0..to)
        .map(|_| {
            let position = (at as usize).min(from.saturating_sub(1));
            at += scale;
            position
        })
        .collect()
}
