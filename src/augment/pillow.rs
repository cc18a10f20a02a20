//! Pillow's arithmetic on 8-bit RGB images, bit for bit (libImaging `Blend.c`, `Convert.c`; `ImageEnhance.py`), as
//! torchvision's functions of the same names call it on PIL images.

use crate::tensor::Image;

/// `torchvision.transforms.functional.adjust_brightness`: 0 is black, 1 the image.
pub fn adjust_brightness(image: &mut Image, factor: f64) {
    blend_with_constant(image, 0, factor);
}

/// `adjust_contrast`: 0 is the mean gray, 1 the image.
pub fn adjust_contrast(image: &mut Image, factor: f64) {
    let pixels = image.pixels.as_chunks::<3>().0;
    let sum: u64 = pixels.iter().map(|pixel| u64::from(luma(pixel))).sum();
    let mean = sum as f64 / pixels.len().max(1) as f64;
    blend_with_constant(image, (mean + 0.5) as u8, factor);
}

/// `adjust_saturation`: 0 is the gray image, 1 the image.
pub fn adjust_saturation(image: &mut Image, factor: f64) {
    let factor = factor as f32;
    for pixel in image.pixels.as_chunks_mut::<3>().0 {
        let gray = luma(pixel);
        *pixel = pixel.map(|value| blend(gray, value, factor));
    }
}

/// `adjust_hue`: turns the hue by this share of the circle, through Pillow's 8-bit HSV and back.
pub fn adjust_hue(image: &mut Image, factor: f64) {
    // Truncated towards zero and wrapped, as numpy's casts to int32 and uint8.
    let shift = (factor * 255.0) as i32 as u8;
    for pixel in image.pixels.as_chunks_mut::<3>().0 {
        let [h, s, v] = rgb_to_hsv(*pixel);
        *pixel = hsv_to_rgb([h.wrapping_add(shift), s, v]);
    }
}

/// `Image.convert("L")`: ITU-R 601-2 luma in 16-bit fixed point.
pub(super) fn luma(&[r, g, b]: &[u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// `Image.blend` of two bytes: between them truncated, outside clipped.
pub(super) fn blend(from: u8, to: u8, alpha: f32) -> u8 {
    let value = f32::from(from) + alpha * f32::from(i16::from(to) - i16::from(from));
    // A Rust cast truncates and clips; within 0..1 nothing is ever clipped.
    value as u8
}

fn blend_with_constant(image: &mut Image, from: u8, factor: f64) {
    let table: [u8; 256] = std::array::from_fn(|value| blend(from, value as u8, factor as f32));
    image.pixels.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}

/// `Convert.c` `rgb2hsv_row`, with its mixture of float and double.
fn rgb_to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let saturation = range / f32::from(most);
    let [rc, gc, bc] = [r, g, b].map(|value| f32::from(most - value) / range);
    let sixths = match most {
        _ if r == most => bc - gc,
        _ if g == most => (2.0 + f64::from(rc) - f64::from(bc)) as f32,
        _ => (4.0 + f64::from(gc) - f64::from(rc)) as f32,
    };
    let turns = f64::from(sixths) / 6.0 + 1.0;
    let hue = (if turns >= 1.0 { turns - 1.0 } else { turns }) as f32;
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, most]
}

/// `Convert.c` `hsv2rgb`, with its mixture of float and double.
fn hsv_to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let sixths = f64::from(h) * 6.0 / 255.0;
    let sector = sixths.floor();
    let rest = (sixths - f64::from(sector as f32)) as f32;
    let saturation = (f64::from(s) / 255.0) as f32;
    let faded = |by: f64| (f64::from(v) * (1.0 - by)).round() as u8;
    let p = faded(f64::from(saturation));
    let q = faded(f64::from(saturation * rest));
    let t = faded(f64::from(saturation) * (1.0 - f64::from(rest)));
    match sector as u8 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}
