//! Decoded pictures.

use crate::error::{Error, Result};

/// An 8-bit RGB picture, row by row from the top, three bytes a pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub width: usize,
    pub height: usize,
    /// `height * width * 3` bytes.
    pub pixels: Vec<u8>,
}

impl Image {
    /// A black picture.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![0; width * height * 3] }
    }

    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }

    pub fn set_pixel(&mut self, x: usize, y: usize, rgb: [u8; 3]) {
        let at = (y * self.width + x) * 3;
        self.pixels[at..at + 3].copy_from_slice(&rgb);
    }

    /// As a PNG file's bytes.
    pub fn png(&self) -> Result<Vec<u8>> {
        let encode = || -> std::result::Result<Vec<u8>, png::EncodingError> {
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_depth(png::BitDepth::Eight);
            encoder.write_header()?.write_image_data(&self.pixels)?;
            Ok(bytes)
        };
        encode().map_err(|error| Error::bug(format!("a PNG of {} x {}: {error}", self.width, self.height)))
    }

    /// Keeps the part of `width x height` whose upper left corner is at `(x, y)`, in place; what lies outside is cut off.
    pub fn crop(&mut self, [x, y]: [usize; 2], [width, height]: [usize; 2]) {
        let (x, y) = (x.min(self.width), y.min(self.height));
        let (width, height) = (width.min(self.width - x), height.min(self.height - y));
        for row in 0..height {
            let from = ((y + row) * self.width + x) * 3;
            self.pixels.copy_within(from..from + width * 3, row * width * 3);
        }
        self.pixels.truncate(width * height * 3);
        (self.width, self.height) = (width, height);
    }

    /// Keeps the middle `side x side` pixels; an image that is not larger stays. torchvision's `CenterCrop`.
    pub fn center_crop(&mut self, side: usize) {
        self.crop([center_margin(self.width, side), center_margin(self.height, side)], [side; 2]);
    }
}

/// Where the middle `side` of a length begins.
pub fn center_margin(length: usize, side: usize) -> usize {
    // Halves go to the even neighbour, as Python's `round`.
    (length.saturating_sub(side) as f64 / 2.0).round_ties_even() as usize
}
