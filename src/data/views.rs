//! Views of an image for test-time augmentation: other pictures of the same thing, whose scores are averaged.

use super::{Interpolation, resize::resize};
use crate::{
    error::{Error, Result, nearest},
    tensor::Image,
};
use std::fmt;

/// One way to look at a decoded image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum View {
    /// The whole image, turned or mirrored.
    Symmetry(Symmetry),
    /// Above 1 the middle of the image, enlarged; below 1 the whole image, made smaller inside its own reflection.
    Scale(f64),
    /// [`CROP`] of each side, at this share of what is left over to its left and above.
    Crop(f64, f64),
}

/// The symmetries of the square. Turns are counter-clockwise, as Pillow's `Image.transpose` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symmetry {
    Identity,
    HFlip,
    VFlip,
    Rot90,
    Rot180,
    Rot270,
    Transpose,
    Transverse,
}

use Symmetry::{HFlip, Identity, Rot90, Rot180, Rot270, Transpose, Transverse, VFlip};

/// The order in which a number takes them: 2 adds the mirror image, 6 are those of the FFDI competition's third place.
const SYMMETRIES: [(&str, Symmetry); 8] = [
    ("identity", Identity),
    ("hflip", HFlip),
    ("vflip", VFlip),
    ("rot90", Rot90),
    ("rot180", Rot180),
    ("rot270", Rot270),
    ("transpose", Transpose),
    ("transverse", Transverse),
];

/// The share of each side that a crop of `multicrop` keeps: 224 of 256 pixels.
const CROP: f64 = 0.875;

/// Names that stand for several views.
const SETS: [(&str, &[View]); 4] = [
    ("flips", &[View::Symmetry(HFlip), View::Symmetry(VFlip)]),
    ("rotations", &[View::Symmetry(Rot90), View::Symmetry(Rot180), View::Symmetry(Rot270)]),
    ("scales", &[View::Scale(0.9), View::Scale(1.1)]),
    (
        "multicrop",
        &[View::Crop(0.0, 0.0), View::Crop(1.0, 0.0), View::Crop(0.0, 1.0), View::Crop(1.0, 1.0), View::Crop(0.5, 0.5)],
    ),
];

/// The views a list means, the image itself first: a number from 1 to 8, or names with commas between them.
pub fn parse(text: &str) -> Result<Vec<View>> {
    let mut views = vec![View::Symmetry(Identity)];
    for word in text.split(',').map(str::trim) {
        for view in meant(word)? {
            if !views.contains(&view) {
                views.push(view);
            }
        }
    }
    Ok(views)
}

fn meant(word: &str) -> Result<Vec<View>> {
    let symmetries = || SYMMETRIES.iter().map(|(_, symmetry)| View::Symmetry(*symmetry));
    if let Ok(count) = word.parse::<usize>() {
        return match count {
            1..=8 => Ok(symmetries().take(count).collect()),
            _ => Err(Error::user(format!("{count} views: a number stands for the first of 8 symmetries; name others"))),
        };
    }
    if let Some((_, set)) = SETS.iter().find(|(name, _)| *name == word) {
        return Ok(set.to_vec());
    }
    if let Some(view) = symmetries().find(|view| view.to_string() == word) {
        return Ok(vec![view]);
    }
    let factor = word.strip_prefix("scale").and_then(|factor| factor.parse().ok());
    if let Some(factor) = factor.filter(|factor| (0.5..=2.0).contains(factor)) {
        return Ok(vec![View::Scale(factor)]);
    }
    let names: Vec<&str> = SETS.iter().map(|(name, _)| *name).chain(SYMMETRIES.iter().map(|(name, _)| *name)).collect();
    let hint = nearest(word, names.iter().copied()).map(|name| format!("did you mean `{name}`? "));
    let known = names.join(", ");
    let hint = hint.unwrap_or_default();
    Err(Error::user(format!("`{word}` is no view; {hint}there are 1 to 8, {known} and scale0.5 to scale2")))
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symmetry(symmetry) => {
                let name = SYMMETRIES.iter().find(|(_, other)| other == symmetry).map_or("", |(name, _)| name);
                f.write_str(name)
            }
            Self::Scale(factor) => write!(f, "scale{factor}"),
            Self::Crop(x, y) => write!(f, "crop({x}, {y})"),
        }
    }
}

/// An image as every one of the views, each `size x size`.
pub fn render(views: &[View], image: &Image, size: usize, interpolation: Interpolation) -> Result<Vec<Image>> {
    let whole = resize(image, size, size, interpolation)?;
    let view = |view: &View| match *view {
        View::Symmetry(symmetry) => Ok(symmetry.apply(&whole)),
        View::Scale(factor) if factor >= 1.0 => {
            resize(&crop(image, 1.0 / factor, [0.5, 0.5]), size, size, interpolation)
        }
        View::Scale(factor) => {
            let inner = ((size as f64 * factor).round() as usize).max(1);
            Ok(reflected(&resize(image, inner, inner, interpolation)?, size))
        }
        View::Crop(x, y) => resize(&crop(image, CROP, [x, y]), size, size, interpolation),
    };
    views.iter().map(view).collect()
}

impl Symmetry {
    /// The image turned or mirrored, as Pillow's `Image.transpose`.
    pub fn apply(self, image: &Image) -> Image {
        let (w, h) = (image.width, image.height);
        let turned = matches!(self, Rot90 | Rot270 | Transpose | Transverse);
        let mut out = if turned { Image::new(h, w) } else { Image::new(w, h) };
        for y in 0..out.height {
            for x in 0..out.width {
                let (from_x, from_y) = match self {
                    Identity => (x, y),
                    HFlip => (w - 1 - x, y),
                    VFlip => (x, h - 1 - y),
                    Rot180 => (w - 1 - x, h - 1 - y),
                    Rot90 => (w - 1 - y, x),
                    Rot270 => (y, h - 1 - x),
                    Transpose => (y, x),
                    Transverse => (w - 1 - y, h - 1 - x),
                };
                out.set_pixel(x, y, image.pixel(from_x, from_y));
            }
        }
        out
    }
}

/// `share` of each side, at this share of the rest to its left and above.
fn crop(image: &Image, share: f64, at: [f64; 2]) -> Image {
    let span = |length: usize, at: f64| {
        let kept = ((length as f64 * share).round() as usize).clamp(1, length.max(1));
        (((length - kept) as f64 * at).round() as usize, kept)
    };
    let ((x, width), (y, height)) = (span(image.width, at[0]), span(image.height, at[1]));
    let rows = image.pixels.chunks_exact(image.width * 3).skip(y).take(height);
    Image { width, height, pixels: rows.flat_map(|row| &row[x * 3..(x + width) * 3]).copied().collect() }
}

/// The image in the middle of a larger square, continued by its reflection; the border itself is not repeated.
fn reflected(image: &Image, size: usize) -> Image {
    let before = (size - image.width) / 2;
    let place = |at: usize| {
        let last = image.width as isize - 1;
        let at = (at as isize - before as isize).abs();
        (if at > last { 2 * last - at } else { at }).clamp(0, last) as usize
    };
    let mut out = Image::new(size, size);
    for y in 0..size {
        for x in 0..size {
            out.set_pixel(x, y, image.pixel(place(x), place(y)));
        }
    }
    out
}
