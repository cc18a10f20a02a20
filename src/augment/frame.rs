//! Cropping and padding, as torchvision's functions on PIL images.

use crate::tensor::Image;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What stands in the margin of a padded image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaddingMode {
    /// The fill colour.
    #[default]
    Constant,
    /// The border pixel.
    Edge,
    /// The image mirrored at its border pixel.
    Reflect,
    /// The image mirrored at its border, the border pixel twice.
    Symmetric,
}

impl PaddingMode {
    /// Which of `size` pixels stands at `at`, inside or outside of them; `None`: the fill colour.
    pub fn source(self, at: isize, size: usize) -> Option<usize> {
        let size = size as isize;
        let mirrored = |period: isize| {
            let place = at.rem_euclid(period.max(1));
            if place < size { place } else { period - place }
        };
        let place = match self {
            Self::Constant => return (0..size).contains(&at).then_some(at as usize),
            Self::Edge => at.clamp(0, size - 1),
            Self::Reflect => mirrored(2 * (size - 1)),
            Self::Symmetric => {
                let place = at.rem_euclid(2 * size);
                if place < size { place } else { 2 * size - 1 - place }
            }
        };
        Some(place as usize)
    }
}

/// torchvision's `functional.pad` by `x` pixels at both sides, `y` at top and bottom.
pub fn pad(image: &Image, [x, y]: [usize; 2], mode: PaddingMode, fill: [u8; 3]) -> Image {
    let columns: Vec<_> =
        (0..image.width + 2 * x).map(|at| mode.source(at as isize - x as isize, image.width)).collect();
    let mut pixels = Vec::with_capacity((image.height + 2 * y) * columns.len() * 3);
    for row in (0..image.height + 2 * y).map(|at| mode.source(at as isize - y as isize, image.height)) {
        for column in &columns {
            pixels.extend(row.zip(*column).map_or(fill, |(row, column)| image.pixel(column, row)));
        }
    }
    Image { width: columns.len(), height: image.height + 2 * y, pixels }
}

/// Why an image of this size cannot be cropped to a square of `side`.
pub fn check_crop([width, height]: [usize; 2], side: usize) -> Result<(), String> {
    match side <= width.min(height) {
        true => Ok(()),
        false => Err(format!("cannot crop {side} x {side} px from images of {width} x {height}")),
    }
}
