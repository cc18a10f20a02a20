//! Pillow's operations on single levels and pixels (`ImageOps.py`, `Convert.c`), bit for bit, as torchvision's
//! functions of the same names call them on PIL images.

use super::pillow::luma;
use crate::tensor::Image;

/// What each level of a channel becomes.
type Table = [u8; 256];

/// `rgb_to_grayscale` with three channels: each pixel's luma.
pub fn grayscale(image: &mut Image) {
    image.pixels.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = [luma(pixel); 3]);
}

/// `invert`: 255 minus each level.
pub fn invert(image: &mut Image) {
    apply(image, &[table(|level| 255 - level); 3]);
}

/// `posterize`: keeps this many of the upper bits, 0 to 8.
pub fn posterize(image: &mut Image, bits: u32) {
    let mask = (0xff00_u32 >> bits.min(8)) as u8;
    apply(image, &[table(|level| level & mask); 3]);
}

/// `solarize`: inverts the levels from this one on.
pub fn solarize(image: &mut Image, threshold: f64) {
    apply(image, &[table(|level| if f64::from(level) < threshold { level } else { 255 - level }); 3]);
}

/// timm's `solarize_add`: makes the lower half of the levels lighter by this much.
pub fn solarize_add(image: &mut Image, add: u8) {
    apply(image, &[table(|level| if level < 128 { level.saturating_add(add) } else { level }); 3]);
}

/// `autocontrast`: stretches each channel until it reaches from 0 to 255.
pub fn autocontrast(image: &mut Image) {
    let tables = histograms(image).map(|counts| {
        let used = |count: &u32| *count > 0;
        let (low, high) = (counts.iter().position(used).unwrap_or(0), counts.iter().rposition(used).unwrap_or(0));
        if high <= low {
            return table(|level| level);
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        table(|level| (f64::from(level) * scale + offset) as u8)
    });
    apply(image, &tables);
}

/// `equalize`: spreads each channel's levels until all are about as frequent.
pub fn equalize(image: &mut Image) {
    let tables = histograms(image).map(|counts| {
        let last = counts.iter().rev().find(|count| **count > 0).copied().unwrap_or(0);
        let step = (counts.iter().sum::<u32>() - last) / 255;
        if step == 0 {
            return table(|level| level);
        }
        let mut below = step / 2;
        std::array::from_fn(|level| {
            let value = (below / step).min(255) as u8;
            below += counts[level];
            value
        })
    });
    apply(image, &tables);
}

fn table(becomes: impl Fn(u8) -> u8) -> Table {
    std::array::from_fn(|level| becomes(level as u8))
}

fn apply(image: &mut Image, tables: &[Table; 3]) {
    for pixel in image.pixels.as_chunks_mut::<3>().0 {
        *pixel = std::array::from_fn(|channel| tables[channel][usize::from(pixel[channel])]);
    }
}

/// How often each level occurs in each channel.
fn histograms(image: &Image) -> [[u32; 256]; 3] {
    let mut counts = [[0; 256]; 3];
    for pixel in image.pixels.as_chunks::<3>().0 {
        (0..3).for_each(|channel| counts[channel][usize::from(pixel[channel])] += 1);
    }
    counts
}
