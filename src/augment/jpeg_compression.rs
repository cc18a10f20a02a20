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
use libjpeg_turbo_rs::{PixelFormat, Subsampling};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Saves the image as JPEG of a random quality and reads it back: 4:2:0, accurate DCT, fancy upsampling. torchvision's
/// `v2.JPEG`, and Pillow's `save(.., quality=..)`, bit for bit; the default of `quality` is that of Wang et al. 2020
/// (arXiv:1912.11035), as torchvision has none, and `p` is this program's, and at 1 torchvision's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct JpegCompression {
    /// Quality of libjpeg, 1 to 100, or the two of `[low, high]` to draw from, both included.
    #[garde(custom(within(1, 100)))]
    pub quality: Span<u32>,
    /// Probability of the compression.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for JpegCompression {
    fn default() -> Self {
        Self { quality: Span::Between([30, 100]), p: 1.0 }
    }
}

impl Augment for JpegCompression {
    fn changes(&self, _: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        rng.chance(self.p).then(|| Change::Jpeg(self.quality.draw(rng) as u8)).into_iter().collect()
    }
}

/// The image after JPEG of this quality, 1 to 100.
pub fn through_jpeg(image: &mut Image, quality: u8) -> Result<()> {
    let Image { width, height, pixels } = &image;
    let bytes = libjpeg_turbo_rs::compress(pixels, *width, *height, PixelFormat::Rgb, quality, Subsampling::S420);
    let decoded = bytes.and_then(|bytes| libjpeg_turbo_rs::decompress_to(&bytes, PixelFormat::Rgb));
    image.pixels = decoded.map_err(|error| Error::bug(format!("jpeg_compression: {error}")))?.data;
    Ok(())
}
