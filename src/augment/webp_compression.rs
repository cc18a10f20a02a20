use super::{
    Augment, Context,
    change::Change,
    span::{Span, within},
};
use crate::{
    error::{Error, Result},
    tensor::{Image, Rng},
};
use garde::Validate;
use libwebp_sys::{WebPDecodeRGBInto, WebPEncodeRGB, WebPFree};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Width and height that WebP can hold.
const MOST_PIXELS: usize = 16383;

/// Saves the image as lossy WebP of a random quality and reads it back. Pillow's `save(.., quality=..)`, by libwebp as
/// there, bit for bit; the defaults are those of `jpeg_compression`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct WebpCompression {
    /// Quality of libwebp, 0 to 100, or the two of `[low, high]` to draw from, both included.
    #[garde(custom(within(0, 100)))]
    pub quality: Span<u32>,
    /// Probability of the compression.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for WebpCompression {
    fn default() -> Self {
        Self { quality: Span::Between([30, 100]), p: 1.0 }
    }
}

impl Augment for WebpCompression {
    fn changes(&self, _: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        rng.chance(self.p).then(|| Change::Webp(self.quality.draw(rng) as u8)).into_iter().collect()
    }

    fn check(&self, input_size: usize) -> std::result::Result<(), String> {
        match input_size <= MOST_PIXELS {
            true => Ok(()),
            false => Err(format!("WebP holds at most {MOST_PIXELS} pixels a side")),
        }
    }
}

/// The image after lossy WebP of this quality, 0 to 100.
pub fn through_webp(image: &mut Image, quality: u8) -> Result<()> {
    let (width, height) = (image.width as i32, image.height as i32);
    if image.pixels.len() != image.width * image.height * 3 || image.width.max(image.height) > MOST_PIXELS {
        return Err(Error::bug(format!("webp_compression: an image of {width} x {height} pixels")));
    }
    let mut file = std::ptr::null_mut();
    // SAFETY: the pixels are `height` rows of `width * 3` bytes, as checked. The decoder gets the file as long as the
    // encoder says it is and fills the same rows; libwebp's own allocation is freed once, by its own function, null
    // included.
    let written = unsafe {
        let length = WebPEncodeRGB(image.pixels.as_ptr(), width, height, width * 3, quality.into(), &raw mut file);
        let pixels = &mut image.pixels;
        let written = WebPDecodeRGBInto(file, length, pixels.as_mut_ptr(), pixels.len(), width * 3);
        WebPFree(file.cast());
        !written.is_null()
    };
    if written { Ok(()) } else { Err(Error::bug("webp_compression: libwebp failed")) }
}
