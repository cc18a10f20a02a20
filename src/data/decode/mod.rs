//! Encoded bytes to 8-bit RGB, bit for bit as `PIL.Image.open(..).convert("RGB")` of Pillow 13: JPEG, PNG, WebP and BMP.
//!
//! As there, alpha is dropped without blending, 16-bit greyscale is clipped, other 16-bit samples keep their high byte,
//! CMYK is taken for Adobe's inverted kind, and an EXIF orientation is left alone (only `ImageOps.exif_transpose` would
//! apply it). A file that is cut short is an error.

mod bmp;
mod jpeg;
mod png;
mod webp;

use crate::{
    error::{Error, Result},
    tensor::Image,
};
pub use jpeg::quality as jpeg_quality;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The most pixels an image may have: where Pillow suspects a decompression bomb.
pub const MAX_PIXELS: usize = 178_956_970;

/// What is wrong with an image, in the user's words.
type Decoded<T> = std::result::Result<T, String>;

/// The formats that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    Jpeg,
    Png,
    WebP,
    Bmp,
}

impl Format {
    /// Recognizes a format by its first bytes.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            [b'B', b'M', ..] => Some(Self::Bmp),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
        }
    }
}

/// Decodes one image by its content, whatever its name says.
///
/// # Errors
/// The user's mistake when the bytes are no whole image of a known format; they never make it panic.
pub fn decode(bytes: &[u8]) -> Result<Image> {
    let format = Format::of(bytes).ok_or_else(|| Error::user(stranger(bytes)))?;
    let decoder = match format {
        Format::Jpeg => jpeg::decode,
        Format::Png => png::decode,
        Format::WebP => webp::decode,
        Format::Bmp => bmp::decode,
    };
    // Our own decoders do not panic; those of other crates might on bytes nobody tried yet.
    let decoded =
        catch_unwind(AssertUnwindSafe(|| decoder(bytes))).unwrap_or_else(|_| Err("it is damaged".to_string()));
    decoded.map_err(|reason| Error::user(format!("cannot decode this {}: {reason}", format.as_str())))
}

/// Refuses sizes that no image has.
fn check_size(width: usize, height: usize) -> Decoded<()> {
    match width.checked_mul(height) {
        Some(0) => Err(format!("its size is {width} x {height}")),
        Some(pixels) if pixels <= MAX_PIXELS => Ok(()),
        _ => Err(format!("it claims {width} x {height} pixels, more than {MAX_PIXELS}: a decompression bomb?")),
    }
}

/// What bytes of no known format look like.
fn stranger(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).trim_start().to_lowercase();
    let looks = match bytes {
        [] => "the file is empty",
        [b'G', b'I', b'F', b'8', ..] => "it is a GIF",
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "it is a TIFF",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "it is an AVIF, HEIC or video file",
        [0, 0, 0, 12, b'j', b'P', ..] => "it is a JPEG 2000",
        _ if text.starts_with("version https://git-lfs") => {
            "it is a Git LFS pointer, not the image: run `git lfs pull`"
        }
        _ if text.starts_with("<!doctype") || text.starts_with("<html") => "it is an HTML page",
        _ => "its first bytes are those of no image",
    };
    format!("{looks}; JPEG, PNG, WebP and BMP can be read")
}

/// Three bytes a pixel from one.
fn from_grey(width: usize, height: usize, grey: impl Iterator<Item = u8>) -> Image {
    Image { width, height, pixels: grey.flat_map(|v| [v; 3]).collect() }
}
