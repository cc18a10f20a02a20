//! JPEG, as libjpeg-turbo decodes it for Pillow: accurate DCT, fancy upsampling.

use super::{Decoded, MAX_PIXELS, check_size};
use crate::tensor::Image;
use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};

pub fn decode(bytes: &[u8]) -> Decoded<Image> {
    let limits = DecodeLimits { max_pixels: MAX_PIXELS as u64, ..DecodeLimits::default() };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(|error| error.to_string())?;
    let header = decoder.header();
    check_size(header.width(), header.height())?;
    if header.precision != 8 {
        return Err(format!("{} bits a sample; only 8 can be read", header.precision));
    }
    let format = match header.components.len() {
        1 | 3 => PixelFormat::Rgb,
        4 => PixelFormat::Cmyk,
        n => return Err(format!("{n} components; only 1, 3 and 4 can be read")),
    };
    // Pillow asks for the end marker, but bears with damaged data before it, as libjpeg does.
    if !has_end(bytes) {
        return Err("it is cut short".to_string());
    }
    decoder.set_lenient(true);
    decoder.set_output_format(format);
    let image = decoder.decode_image().map_err(|error| error.to_string())?;
    let pixels = if format == PixelFormat::Cmyk { from_cmyk(&image.data) } else { image.data };
    Ok(Image { width: image.width, height: image.height, pixels })
}

/// Whether there is an end-of-image marker outside of the segments.
fn has_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(found) =
        bytes.get(at..).and_then(|rest| rest.windows(2).position(|pair| is_marker(pair[0], pair[1])))
    {
        at += found;
        match bytes[at + 1] {
            0xd9 => return true,
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => at += 2 + segment_length(bytes, at + 2),
        }
    }
    false
}

fn is_marker(first: u8, second: u8) -> bool {
    first == 0xff && second != 0 && second != 0xff
}

fn segment_length(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    }
}

/// Pillow takes every CMYK JPEG for inverted, as Adobe writes them, and converts as `Convert.c` does.
fn from_cmyk(pixels: &[u8]) -> Vec<u8> {
    let convert = |inverted: &[u8]| {
        let white = u32::from(inverted[3]);
        [inverted[0], inverted[1], inverted[2]].map(|ink| {
            let product = (255 - u32::from(ink)) * white + 128;
            white.saturating_sub(((product >> 8) + product) >> 8) as u8
        })
    };
    pixels.chunks_exact(4).flat_map(convert).collect()
}

/// The quality (1 to 100) whose libjpeg luminance table is nearest to the file's; `None` where it has none.
pub fn quality(bytes: &[u8]) -> Option<u8> {
    let table = luminance_table(bytes)?;
    let distance = |quality: u32| -> u32 {
        let scale = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
        let standard = STANDARD.iter().map(|&v| ((u32::from(v) * scale + 50) / 100).clamp(1, 255));
        standard.zip(&table).map(|(a, &b)| a.abs_diff(b)).sum()
    };
    (1..=100).min_by_key(|&quality| distance(quality)).map(|quality| quality as u8)
}

/// The quantization table 0, in zigzag order.
fn luminance_table(bytes: &[u8]) -> Option<Vec<u32>> {
    let mut at = 2;
    loop {
        at += bytes.get(at..)?.windows(2).position(|pair| is_marker(pair[0], pair[1]))?;
        let (marker, length) = (bytes[at + 1], segment_length(bytes, at + 2));
        match marker {
            0xda => return None,
            0xdb => {
                if let Some(table) = table_0(bytes.get(at + 4..at + 2 + length)?) {
                    return Some(table);
                }
            }
            _ => (),
        }
        at += 2 + if matches!(marker, 0x01 | 0xd0..=0xd8) { 0 } else { length };
    }
}

/// Table 0 of a DQT segment, which may hold several.
fn table_0(mut segment: &[u8]) -> Option<Vec<u32>> {
    while let Some((&head, rest)) = segment.split_first() {
        let width = if head >> 4 == 0 { 1 } else { 2 };
        let (table, next) = rest.split_at_checked(64 * width)?;
        if head & 15 == 0 {
            let value = |bytes: &[u8]| bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte));
            return Some(table.chunks(width).map(value).collect());
        }
        segment = next;
    }
    None
}

/// The luminance table of the JPEG standard (ITU T.81, table K.1), in zigzag order.
const STANDARD: [u8; 64] = [
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61,
    60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103, 62, 77, 113,
    121, 112, 100, 120, 92, 101, 103, 99,
];
