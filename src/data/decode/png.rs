//! PNG; of an animated one, the first picture.

use super::{Decoded, check_size, from_grey};
use crate::tensor::Image;
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};
use std::io::Cursor;

pub fn decode(bytes: &[u8]) -> Decoded<Image> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: 1 << 30 });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.ignore_checksums(false);
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    check_size(width, height)?;
    let palette = reader.info().palette.as_ref().map(|palette| palette.to_vec());
    let mut samples = vec![0; reader.output_buffer_size().ok_or("it is too large")?];
    let frame = reader.next_frame(&mut samples).map_err(|error| error.to_string())?;
    samples.truncate(frame.buffer_size());
    // What follows the picture does not matter to Pillow, but the picture's data must be whole.
    let rgb = to_rgb(frame.color_type, frame.bit_depth, &samples, frame.line_size, width, palette.as_deref());
    match rgb {
        Some(image) if image.pixels.len() == width * height * 3 => Ok(image),
        _ => Err("its colour type is not known".to_string()),
    }
}

fn to_rgb(
    color: ColorType,
    depth: BitDepth,
    samples: &[u8],
    line: usize,
    width: usize,
    palette: Option<&[u8]>,
) -> Option<Image> {
    let height = samples.len() / line.max(1);
    let image = |pixels: Vec<u8>| Some(Image { width, height, pixels });
    // `bytes` a pixel, of which those at `at` are kept.
    let pick =
        |bytes: usize, at: [usize; 3]| image(samples.chunks_exact(bytes).flat_map(|p| at.map(|i| p[i])).collect());
    match (color, depth) {
        (ColorType::Rgb, BitDepth::Eight) => image(samples.to_vec()),
        (ColorType::Rgb, BitDepth::Sixteen) => pick(6, [0, 2, 4]),
        (ColorType::Rgba, BitDepth::Eight) => pick(4, [0, 1, 2]),
        (ColorType::Rgba, BitDepth::Sixteen) => pick(8, [0, 2, 4]),
        (ColorType::GrayscaleAlpha, BitDepth::Eight) => pick(2, [0; 3]),
        (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => pick(4, [0; 3]),
        // Pillow's mode I;16: what does not fit into 8 bits is clipped.
        (ColorType::Grayscale, BitDepth::Sixteen) => {
            let clipped = samples.chunks_exact(2).map(|p| if p[0] > 0 { 255 } else { p[1] });
            Some(from_grey(width, height, clipped))
        }
        (ColorType::Grayscale, depth) => {
            let scale = 255 / ((1u16 << depth as u16) - 1) as u8;
            Some(from_grey(width, height, unpack(samples, line, width, depth as usize).map(|v| v * scale)))
        }
        (ColorType::Indexed, depth) => {
            let palette = palette?;
            // An index beyond the palette is black.
            let entry = |index: u8| {
                let at = usize::from(index) * 3;
                palette.get(at..at + 3).map_or([0; 3], |rgb| [rgb[0], rgb[1], rgb[2]])
            };
            image(unpack(samples, line, width, depth as usize).flat_map(entry).collect())
        }
        _ => None,
    }
}

/// Samples of 1, 2, 4 or 8 bits, the first in the high bits; rows begin on whole bytes.
pub(super) fn unpack(rows: &[u8], line: usize, width: usize, bits: usize) -> impl Iterator<Item = u8> {
    let mask = ((1u16 << bits) - 1) as u8;
    rows.chunks_exact(line.max(1)).flat_map(move |row| {
        (0..width).map(move |x| {
            let at = x * bits;
            row[at / 8] >> (8 - bits - at % 8) & mask
        })
    })
}
