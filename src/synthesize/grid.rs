//! A look at what was made.

use crate::{
    data::{Dataset, Interpolation, resize::resize},
    error::Result,
    tensor::Image,
};

/// Width and height of one picture, and the gap between two.
const TILE: usize = 64;
const GAP: usize = 4;
const COLUMNS: usize = 10;

/// A PNG file's bytes: for each class with made images a row of real training images of it above two rows of made ones.
/// `None` where nothing was made.
pub fn sample_sheet(data: &Dataset) -> Result<Option<Vec<u8>>> {
    let split = &data.train;
    let of = |range: std::ops::Range<usize>, class: u32| -> Vec<usize> {
        range.filter(|&index| split.items[index].target == class).take(2 * COLUMNS).collect()
    };
    let mut rows: Vec<Vec<usize>> = Vec::new();
    for class in 0..data.classes.len() as u32 {
        let made = of(split.real()..split.items.len(), class);
        if !made.is_empty() {
            rows.push(of(0..split.real(), class).into_iter().take(COLUMNS).collect());
            rows.extend(made.chunks(COLUMNS).map(<[usize]>::to_vec));
        }
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let mut sheet = Image::new(COLUMNS * (TILE + GAP) - GAP, rows.len() * (TILE + GAP) - GAP);
    sheet.pixels.fill(u8::MAX);
    for (row, indices) in rows.iter().enumerate() {
        for (column, &index) in indices.iter().enumerate() {
            let image = Image { width: split.size, height: split.size, pixels: split.pixels(index)?.to_vec() };
            place(&mut sheet, &tile(&image)?, [column * (TILE + GAP), row * (TILE + GAP)]);
        }
    }
    sheet.png().map(Some)
}

/// Larger images are made smaller smoothly, smaller ones keep their pixels.
fn tile(image: &Image) -> Result<Image> {
    let filter = if image.width > TILE { Interpolation::Bilinear } else { Interpolation::Nearest };
    resize(image, TILE, TILE, filter)
}

fn place(sheet: &mut Image, tile: &Image, [x, y]: [usize; 2]) {
    for row in 0..tile.height {
        let to = ((y + row) * sheet.width + x) * 3;
        let from = row * tile.width * 3;
        sheet.pixels[to..to + tile.width * 3].copy_from_slice(&tile.pixels[from..from + tile.width * 3]);
    }
}
