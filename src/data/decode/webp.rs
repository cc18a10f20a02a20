//! WebP, lossy and lossless; of an animated one, the first picture.

use super::{Decoded, MAX_PIXELS, check_size};
use crate::tensor::Image;
use image_webp::WebPDecoder;
use std::io::Cursor;

pub fn decode(bytes: &[u8]) -> Decoded<Image> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    check_size(width, height)?;
    decoder.set_memory_limit(MAX_PIXELS * 4);
    let mut pixels = vec![0; decoder.output_buffer_size().ok_or("it is too large")?];
    decoder.read_image(&mut pixels).map_err(|error| error.to_string())?;
    if decoder.has_alpha() {
        pixels = pixels.chunks_exact(4).flat_map(|rgba| [rgba[0], rgba[1], rgba[2]]).collect();
    }
    Ok(Image { width, height, pixels })
}
