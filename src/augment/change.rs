//! What is done to an image once everything random about it has been drawn: the same on every device.

use super::{
    aug_mix::Mixture,
    elastic::Elastic,
    filters,
    frame::{self, PaddingMode},
    gaussian_noise::GaussianNoise,
    grid_mask::{Grid, GridMask},
    jpeg_compression::through_jpeg,
    pillow, pillow_levels,
    policy::{self, Canvas, Op},
    random_erasing::Colours,
    warp::{self, Filter, Map},
    webp_compression::through_webp,
};
use crate::{
    error::Result,
    tensor::{Image, Interpolation, Rng, resize::resize},
};

/// One step. Where it holds random numbers, they are those that its values are drawn from, pixel by pixel.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    FlipHorizontal,
    FlipVertical,
    /// One of the policies' operations.
    Step(policy::Step, Canvas),
    /// Turns the hue by this share of the circle.
    Hue(f64),
    Grayscale,
    /// Which channel stands in each channel's place.
    Channels([usize; 3]),
    /// One colour in a box that may reach beyond the image.
    Fill {
        corner: [usize; 2],
        size: [usize; 2],
        colour: [u8; 3],
    },
    /// A colour of its own for each pixel of a box within the image.
    Scatter {
        corner: [usize; 2],
        size: [usize; 2],
        colours: Colours,
        rng: Rng,
    },
    /// The part of the image from a corner on, cut off at the border.
    Crop {
        corner: [usize; 2],
        size: [usize; 2],
    },
    /// The middle square of this side.
    CenterCrop(usize),
    /// As `frame::pad`.
    Pad {
        margin: [usize; 2],
        mode: PaddingMode,
        fill: [u8; 3],
    },
    /// As `warp::transform` at the same size.
    Warp(Map, Filter, [u8; 3]),
    /// As `warp::rotate`.
    Rotate {
        angle: f64,
        filter: Filter,
        center: Option<[f64; 2]>,
        fill: [u8; 3],
    },
    /// As Pillow's `resize`, to this width and height.
    Resize([usize; 2], Interpolation),
    /// As `filters::gaussian_blur`.
    Blur {
        kernel_size: usize,
        sigma: f64,
    },
    Noise(GaussianNoise, Rng),
    Elastic(Elastic, Rng),
    /// Erases a grid, by this colour.
    Grid(GridMask, Grid, [u8; 3]),
    Mixture(Mixture, Canvas),
    /// Through JPEG of this quality.
    Jpeg(u8),
    /// Through lossy WebP of this quality.
    Webp(u8),
}

impl Change {
    /// A policy's operation that leaves no area bare.
    pub fn step(op: Op, argument: f64) -> Self {
        Self::Step(policy::Step { op, argument }, Canvas { filter: Filter::Nearest, fill: [0; 3] })
    }

    /// On the CPU.
    ///
    /// # Errors
    /// Where a codec fails.
    pub fn apply(&self, image: &mut Image) -> Result<()> {
        match self {
            Self::FlipHorizontal => flip_horizontal(image),
            Self::FlipVertical => flip_vertical(image),
            Self::Step(step, canvas) => step.apply(image, *canvas),
            Self::Hue(turn) => pillow::adjust_hue(image, *turn),
            Self::Grayscale => pillow_levels::grayscale(image),
            Self::Channels(order) => (image.pixels.as_chunks_mut::<3>().0.iter_mut())
                .for_each(|pixel| *pixel = order.map(|channel| pixel[channel])),
            Self::Fill { corner, size, colour } => fill(image, *corner, *size, || *colour),
            Self::Scatter { corner, size, colours, rng } => {
                let mut rng = rng.clone();
                fill(image, *corner, *size, || colours.draw(&mut rng));
            }
            Self::Blur { kernel_size, sigma } => filters::gaussian_blur(image, *kernel_size, *sigma),
            Self::Noise(noise, rng) => noise.add_to(image, rng.clone()),
            Self::Elastic(elastic, rng) => elastic.bend(image, rng.clone()),
            Self::Grid(mask, grid, fill) => mask.erase(image, *grid, *fill),
            Self::Mixture(mixture, canvas) => mixture.apply(image, *canvas),
            Self::Jpeg(quality) => through_jpeg(image, *quality)?,
            Self::Webp(quality) => through_webp(image, *quality)?,
            Self::Crop { .. } | Self::CenterCrop(_) | Self::Pad { .. } => self.reframe(image),
            Self::Warp(..) | Self::Rotate { .. } => self.warp(image),
            Self::Resize([width, height], filter) => *image = resize(image, *width, *height, *filter)?,
        }
        Ok(())
    }

    fn reframe(&self, image: &mut Image) {
        match *self {
            Self::Crop { corner, size } => image.crop(corner, size),
            Self::CenterCrop(side) => image.center_crop(side),
            Self::Pad { margin, mode, fill } => *image = frame::pad(image, margin, mode, fill),
            _ => {}
        }
    }

    fn warp(&self, image: &mut Image) {
        let size = [image.width, image.height];
        match *self {
            Self::Warp(map, filter, fill) => *image = warp::transform(image, size, map, filter, fill),
            Self::Rotate { angle, filter, center, fill } => *image = warp::rotate(image, angle, filter, center, fill),
            _ => {}
        }
    }

    /// The width and height of an image after the change.
    pub fn size(&self, [width, height]: [usize; 2]) -> [usize; 2] {
        match *self {
            Self::Crop { corner, size } => {
                [0, 1].map(|axis| size[axis].min([width, height][axis].saturating_sub(corner[axis])))
            }
            Self::CenterCrop(side) => [width.min(side), height.min(side)],
            Self::Pad { margin: [x, y], .. } => [width + 2 * x, height + 2 * y],
            Self::Resize(size, _) => size,
            _ => [width, height],
        }
    }
}

/// The width and height of an image after all of them.
pub fn size_after(changes: &[Change], size: [usize; 2]) -> [usize; 2] {
    changes.iter().fold(size, |size, change| change.size(size))
}

fn flip_horizontal(image: &mut Image) {
    let line = image.width.max(1) * 3;
    image.pixels.chunks_exact_mut(line).for_each(|row| row.as_chunks_mut::<3>().0.reverse());
}

fn flip_vertical(image: &mut Image) {
    let row = image.width * 3;
    for y in 0..image.height / 2 {
        let (upper, lower) = image.pixels.split_at_mut((image.height - 1 - y) * row);
        upper[y * row..(y + 1) * row].swap_with_slice(&mut lower[..row]);
    }
}

fn fill(image: &mut Image, [x, y]: [usize; 2], [w, h]: [usize; 2], mut colour: impl FnMut() -> [u8; 3]) {
    let (left, right) = (x.min(image.width), (x + w).min(image.width));
    for row in y..(y + h).min(image.height) {
        let start = row * image.width;
        let pixels = image.pixels[(start + left) * 3..(start + right) * 3].as_chunks_mut::<3>().0;
        pixels.iter_mut().for_each(|pixel| *pixel = colour());
    }
}
