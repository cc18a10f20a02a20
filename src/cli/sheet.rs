//! A contact sheet: rows of labelled images as one PNG file.

use crate::{
    data::{Interpolation, resize::resize},
    error::{Error, Result},
    report,
    tensor::Image,
};
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

/// One line of images under a label.
pub struct Row {
    pub label: String,
    pub tiles: Vec<Tile>,
}

/// An image and what is written below it.
pub struct Tile {
    pub image: Image,
    pub caption: String,
}

/// Pixels between things, of a label's line and of a caption's line.
const GAP: usize = 8;
const LABEL: usize = 26;
const CAPTION: usize = 20;
/// Sides that images are brought into, so that differences can be seen and sheets do not grow without end.
const SIDES: [usize; 2] = [96, 224];

/// The side images of this size are shown at: enlarged by a whole factor, or made smaller.
fn side(size: usize) -> usize {
    let factor = SIDES[0].div_ceil(size.max(1)).max(1);
    (size * factor).min(SIDES[1])
}

fn shown(image: &Image, side: usize) -> Result<Image> {
    let filter = if image.width < side { Interpolation::Nearest } else { Interpolation::Bilinear };
    resize(image, side, side, filter)
}

/// The rows below each other as a PNG file's bytes. `size` is the side of every image.
pub fn png(rows: &[Row], size: usize) -> Result<Vec<u8>> {
    let side = side(size);
    let columns = rows.iter().map(|row| row.tiles.len()).max().unwrap_or(0);
    let width = (columns * (side + GAP) + GAP).max(3 * SIDES[1]);
    let height = rows.iter().map(|row| row.height(side)).sum::<usize>() + GAP;
    let mut pixels = vec![255; width * height * 3];
    write_texts(rows, side, (width, height), &mut pixels).map_err(|error| Error::bug(format!("a sheet: {error}")))?;
    let mut top = LABEL;
    for row in rows {
        for (place, tile) in row.tiles.iter().enumerate() {
            paste(&shown(&tile.image, side)?, (left(place, side), top), width, &mut pixels);
        }
        top += row.height(side);
    }
    Image { width, height, pixels }.png()
}

fn left(place: usize, side: usize) -> usize {
    GAP + place * (side + GAP)
}

impl Row {
    fn height(&self, side: usize) -> usize {
        let captions = self.tiles.iter().any(|tile| !tile.caption.is_empty());
        LABEL + side + GAP + if captions { CAPTION } else { 0 }
    }
}

fn write_texts(
    rows: &[Row],
    side: usize,
    (width, height): (usize, usize),
    pixels: &mut [u8],
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    report::register_font()?;
    let area = BitMapBackend::with_buffer(pixels, (width as u32, height as u32)).into_drawing_area();
    let style = |size: f64| {
        let font = ("sans-serif", size).into_font();
        TextStyle::from(font).color(&RGBColor(0x22, 0x22, 0x22)).pos(Pos::new(HPos::Left, VPos::Top))
    };
    let mut top = 0;
    for row in rows {
        let label = fitting(&row.label, (width - 2 * GAP) / 7);
        area.draw_text(&label, &style(16.0), (GAP as i32, top as i32 + 5)).map_err(|error| error.to_string())?;
        for (place, tile) in row.tiles.iter().enumerate().filter(|(_, tile)| !tile.caption.is_empty()) {
            let at = (left(place, side) as i32, (top + LABEL + side + 3) as i32);
            area.draw_text(&fitting(&tile.caption, side / 6), &style(13.0), at).map_err(|error| error.to_string())?;
        }
        top += row.height(side);
    }
    area.present().map_err(|error| error.to_string().into())
}

/// The text, or as much of it as fits.
fn fitting(text: &str, characters: usize) -> String {
    match text.chars().count() <= characters {
        true => text.to_string(),
        false => text.chars().take(characters.saturating_sub(2)).chain("..".chars()).collect(),
    }
}

fn paste(image: &Image, (x, y): (usize, usize), width: usize, pixels: &mut [u8]) {
    for (line, row) in image.pixels.chunks_exact(image.width * 3).enumerate() {
        let start = ((y + line) * width + x) * 3;
        pixels[start..start + row.len()].copy_from_slice(row);
    }
}
