//! What makes one copy of a face differ from the other: the source transforms of the original
//! (github.com/mapooon/SelfBlendedImages, `get_source_transforms`), built on albumentations.
//!
//! Its shifts of hue, saturation and value are left out: they are of less than one of 180 or 255 levels.

use crate::tensor::{Image, Rng};

/// Other colours, then either a coarser or a sharper picture.
pub fn jitter(image: &mut Image, rng: &mut Rng) {
    let shifted = rng.chance(0.3);
    let shifts: [f64; 3] = std::array::from_fn(|_| rng.range(-20.0, 20.0));
    let (contrast, brightness) = (rng.range(0.9, 1.1), rng.range(-0.1, 0.1));
    colours(image, if shifted { shifts } else { [0.0; 3] }, contrast, brightness);
    match rng.chance(0.5) {
        true => *image = downscaled(image, [2, 4][rng.below(2)]),
        false => *image = sharpened(image, rng.range(0.2, 0.5) as f32, rng.range(0.5, 1.0) as f32),
    }
}

/// `RGBShift`, then `RandomBrightnessContrast`: levels added to each channel, then `contrast * x + 255 * brightness`.
pub fn colours(image: &mut Image, shifts: [f64; 3], contrast: f64, brightness: f64) {
    let table = |shift: f64| -> [u8; 256] {
        let value = |level: usize| (level as f64 + shift).clamp(0.0, 255.0) * contrast + 255.0 * brightness;
        std::array::from_fn(|level| value(level).round() as u8)
    };
    let [red, green, blue] = shifts.map(table);
    for pixel in image.pixels.as_chunks_mut::<3>().0 {
        let [r, g, b] = pixel.map(usize::from);
        *pixel = [red[r], green[g], blue[b]];
    }
}

/// `RandomDownScale`: every `factor`th pixel, stretched again, bilinear.
pub fn downscaled(image: &Image, factor: usize) -> Image {
    let [width, height] = [image.width, image.height].map(|length| (length / factor).max(1));
    let mut small = Image::new(width, height);
    for y in 0..height {
        for x in 0..width {
            small.set_pixel(x, y, image.pixel(x * image.width / width, y * image.height / height));
        }
    }
    let mut large = Image::new(image.width, image.height);
    for y in 0..image.height {
        for x in 0..image.width {
            let at = [(x as f32 + 0.5) / image.width as f32, (y as f32 + 0.5) / image.height as f32];
            large.set_pixel(x, y, super::blend::between(&small, at).map(|value| (value + 0.5) as u8));
        }
    }
    large
}

/// `Sharpen`: the picture mixed with its second differences, `(1 - alpha) x + alpha ((9 + lightness) x - sum 3 x 3)`.
/// Beyond the edge the picture is mirrored, the edge itself not repeated.
pub fn sharpened(image: &Image, alpha: f32, lightness: f32) -> Image {
    let mirror = |at: isize, length: usize| {
        let last = length as isize - 1;
        (last - (last - at.abs()).abs()).clamp(0, last) as usize
    };
    let mut sharp = image.clone();
    for y in 0..image.height {
        for x in 0..image.width {
            let mut around = [0.0f32; 3];
            for (dx, dy) in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dx, dy))) {
                let (x, y) = (mirror(x as isize + dx, image.width), mirror(y as isize + dy, image.height));
                around.iter_mut().zip(image.pixel(x, y)).for_each(|(sum, value)| *sum += f32::from(value));
            }
            let middle = image.pixel(x, y).map(f32::from);
            let value = |c: usize| (1.0 - alpha) * middle[c] + alpha * ((9.0 + lightness) * middle[c] - around[c]);
            sharp.set_pixel(x, y, [0, 1, 2].map(|c| value(c).round() as u8));
        }
    }
    sharp
}
