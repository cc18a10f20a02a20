//! The made pictures that the golden scripts make too.

use runner::tensor::Image;
use sha2::{Digest, Sha256};

/// The scripts' `picture`.
pub fn picture(width: usize, height: usize) -> Image {
    let mut image = Image::new(width, height);
    for (i, value) in image.pixels.iter_mut().enumerate() {
        let (y, x, c) = (i / 3 / width, i / 3 % width, i % 3);
        *value = (x * (3 + 2 * c) + y * (5 - c) + ((x * y) >> (2 + c)) + c * 40) as u8;
    }
    image
}

/// The scripts' `dim`: the picture in a part of the levels, another part for each channel.
pub fn dim(width: usize, height: usize) -> Image {
    let mut image = picture(width, height);
    for (i, value) in image.pixels.iter_mut().enumerate() {
        let c = i % 3;
        *value = (30 + 10 * c + ((usize::from(*value) * (3 + c)) >> 3)) as u8;
    }
    image
}

/// The first 16 digits of the pixels' SHA-256.
pub fn digest(image: &Image) -> String {
    Sha256::digest(&image.pixels)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
