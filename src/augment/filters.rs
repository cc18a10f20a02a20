//! Filters over neighbouring pixels: Pillow's smoothing (`Filter.c`) bit for bit, torchvision's Gaussian blur to its
//! rounding.

use super::pillow::blend;
use crate::tensor::Image;

/// torchvision's `adjust_sharpness` on PIL images: 0 is Pillow's `SMOOTH`, 1 the image, 2 twice as sharp.
pub fn adjust_sharpness(image: &mut Image, factor: f64) {
    let smooth = smooth(image);
    for (value, smooth) in image.pixels.iter_mut().zip(smooth.pixels) {
        *value = blend(smooth, *value, factor as f32);
    }
}

/// `ImageFilter.SMOOTH`: the mean of a pixel and its neighbours, the pixel counting five times; the border stays.
fn smooth(image: &Image) -> Image {
    const WEIGHTS: [[f32; 3]; 3] = [[1.0 / 13.0; 3], [1.0 / 13.0, 5.0 / 13.0, 1.0 / 13.0], [1.0 / 13.0; 3]];
    let mut out = image.clone();
    let line = image.width * 3;
    for y in 1..image.height.saturating_sub(1) {
        let rows = [y + 1, y, y - 1].map(|y| &image.pixels[y * line..(y + 1) * line]);
        for at in 3..line.saturating_sub(3) {
            // Summed as Filter.c does: a row's three products first, then the rows, then half a level to round.
            let products = |row: &[u8], weights: [f32; 3]| {
                f32::from(row[at - 3]) * weights[0]
                    + f32::from(row[at]) * weights[1]
                    + f32::from(row[at + 3]) * weights[2]
            };
            let sum = rows.iter().zip(WEIGHTS).fold(0.5, |sum, (row, weights)| sum + products(row, weights));
            out.pixels[y * line + at] = sum as u8;
        }
    }
    out
}

/// torchvision's `gaussian_blur`: a square kernel of this odd size, the image mirrored at its borders.
pub fn gaussian_blur(image: &mut Image, kernel_size: usize, sigma: f64) {
    let kernel = gaussian(kernel_size, sigma);
    let radius = kernel_size / 2;
    let line = image.width * 3;
    let mut across = vec![0f32; image.pixels.len()];
    for (row, out) in image.pixels.chunks_exact(line).zip(across.chunks_exact_mut(line)) {
        for (x, out) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            for (tap, weight) in kernel.iter().enumerate() {
                let from = mirrored(x + tap, radius, image.width) * 3;
                (0..3).for_each(|channel| out[channel] += f32::from(row[from + channel]) * weight);
            }
        }
    }
    let mut sums = vec![0f32; line];
    for (y, out) in image.pixels.chunks_exact_mut(line).enumerate() {
        sums.fill(0.0);
        for (tap, weight) in kernel.iter().enumerate() {
            let from = mirrored(y + tap, radius, image.height) * line;
            sums.iter_mut().zip(&across[from..from + line]).for_each(|(sum, value)| *sum += value * weight);
        }
        out.iter_mut().zip(&sums).for_each(|(value, sum)| *value = sum.round_ties_even() as u8);
    }
}

/// Weights of a Gaussian at whole distances from its centre, summing to one.
pub(super) fn gaussian(size: usize, sigma: f64) -> Vec<f32> {
    let centre = (size as f64 - 1.0) / 2.0;
    let density = |at: usize| (-0.5 * ((at as f64 - centre) / sigma).powi(2)).exp();
    let sum: f64 = (0..size).map(density).sum();
    (0..size).map(|at| (density(at) / sum) as f32).collect()
}

/// The index `at - radius` folded back into `0..length` at both ends, without repeating the border.
fn mirrored(at: usize, radius: usize, length: usize) -> usize {
    let period = (2 * length).saturating_sub(2).max(1);
    let place = (at + radius * (period - 1)) % period;
    place.min(period - place)
}
