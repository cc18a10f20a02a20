//! What is done to an image once everything random about it has been drawn: the same on every device.

use super::{
    pillow, pillow_levels,
    policy::{self, Canvas, Op},
    warp::{self, Filter, Map, Rotation},
};
use crate::tensor::Image;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    FlipHorizontal,
    FlipVertical,
    /// One of the policies' operations; sharpness is for the CPU alone.
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
    /// The part of the image from a corner on, cut off at the border.
    Crop {
        corner: [usize; 2],
        size: [usize; 2],
    },
    /// The middle square of this side.
    CenterCrop(usize),
    /// As `warp::transform` at the same size.
    Warp(Map, Filter, [u8; 3]),
    /// As `warp::rotate`.
    Rotate {
        angle: f64,
        filter: Filter,
        center: Option<[f64; 2]>,
        fill: [u8; 3],
    },
}

impl Change {
    /// A policy's operation that leaves no area bare.
    pub fn step(op: Op, argument: f64) -> Self {
        Self::Step(policy::Step { op, argument }, Canvas { filter: Filter::Nearest, fill: [0; 3] })
    }

    /// On the CPU.
    pub fn apply(&self, image: &mut Image) {
        let size = [image.width, image.height];
        match *self {
            Self::FlipHorizontal => {
                (image.pixels.chunks_exact_mut(size[0] * 3)).for_each(|row| row.as_chunks_mut::<3>().0.reverse())
            }
            Self::FlipVertical => flip_vertical(image),
            Self::Step(step, canvas) => step.apply(image, canvas),
            Self::Hue(turn) => pillow::adjust_hue(image, turn),
            Self::Grayscale => pillow_levels::grayscale(image),
            Self::Channels(order) => (image.pixels.as_chunks_mut::<3>().0.iter_mut())
                .for_each(|pixel| *pixel = order.map(|channel| pixel[channel])),
            Self::Fill { corner: [x, y], size: [w, h], colour } => fill(image, [x, y], [w, h], colour),
            Self::Crop { corner, size } => image.crop(corner, size),
            Self::CenterCrop(side) => image.center_crop(side),
            Self::Warp(map, filter, fill) => *image = warp::transform(image, size, map, filter, fill),
            Self::Rotate { angle, filter, center, fill } => *image = warp::rotate(image, angle, filter, center, fill),
        }
    }

    /// The width and height of an image after the change.
    pub fn size(&self, [width, height]: [usize; 2]) -> [usize; 2] {
        match *self {
            Self::Crop { corner, size } => {
                [0, 1].map(|axis| size[axis].min([width, height][axis].saturating_sub(corner[axis])))
            }
            Self::CenterCrop(side) => [width.min(side), height.min(side)],
            _ => [width, height],
        }
    }
}

fn flip_vertical(image: &mut Image) {
    let row = image.width * 3;
    for y in 0..image.height / 2 {
        let (upper, lower) = image.pixels.split_at_mut((image.height - 1 - y) * row);
        upper[y * row..(y + 1) * row].swap_with_slice(&mut lower[..row]);
    }
}

fn fill(image: &mut Image, [x, y]: [usize; 2], [w, h]: [usize; 2], colour: [u8; 3]) {
    let (left, right) = (x.min(image.width), (x + w).min(image.width));
    for row in y..(y + h).min(image.height) {
        let start = row * image.width;
        image.pixels[(start + left) * 3..(start + right) * 3].as_chunks_mut::<3>().0.fill(colour);
    }
}

/// Doubles of one change in the table that a GPU reads: its kind and up to eleven numbers; see `kernels/augment.cuh`.
pub const WORDS: usize = 12;

impl Change {
    /// The change to an image of this size, for a GPU; `None` where only the CPU knows it.
    pub fn encode(&self, [width, height]: [usize; 2]) -> Option<[f64; WORDS]> {
        let word = |kind: u32, values: &[f64]| {
            let mut words = [0.0; WORDS];
            words[0] = f64::from(kind);
            words[1..=values.len()].copy_from_slice(values);
            words
        };
        let floats = |values: [usize; 2]| values.map(|value| value as f64);
        Some(match *self {
            Self::FlipHorizontal => word(1, &[]),
            Self::FlipVertical => word(2, &[]),
            Self::Hue(turn) => word(3, &[f64::from((turn * 255.0) as i32 as u8)]),
            Self::Grayscale => word(4, &[]),
            Self::Channels(order) => word(5, &order.map(|channel| channel as f64)),
            Self::Fill { corner, size, colour } => {
                let ([x, y], [w, h], [r, g, b]) = (floats(corner), floats(size), colour.map(f64::from));
                word(6, &[x, y, w, h, r, g, b])
            }
            Self::Crop { corner, .. } => {
                let ([x, y], [w, h]) = (floats(corner), floats(self.size([width, height])));
                word(7, &[x, y, w, h])
            }
            Self::CenterCrop(side) => {
                let margin = |length: usize| (length.saturating_sub(side) as f64 / 2.0).round_ties_even();
                let [w, h] = floats(self.size([width, height]));
                word(7, &[margin(width), margin(height), w, h])
            }
            Self::Warp(map, filter, fill) => encode_map(map, filter, fill, [width, height]),
            Self::Rotate { angle, filter, center, fill } => match warp::rotation([width, height], angle, center) {
                Rotation::Quarters(quarters) => word(8, &[quarters as f64]),
                Rotation::Map(map) => encode_map(map, filter, fill, [width, height]),
            },
            Self::Step(step, canvas) => return self.encode_step(step, canvas, [width, height], word),
        })
    }

    fn encode_step(
        &self,
        step: policy::Step,
        Canvas { filter, fill }: Canvas,
        size: [usize; 2],
        word: impl Fn(u32, &[f64]) -> [f64; WORDS],
    ) -> Option<[f64; WORDS]> {
        let x = step.argument;
        Some(match step.op {
            Op::Identity => word(0, &[]),
            Op::Brightness => word(9, &[x]),
            Op::Contrast => word(10, &[x]),
            Op::Color => word(11, &[x]),
            Op::Posterize => word(12, &[f64::from(x as u32)]),
            Op::Solarize => word(13, &[x]),
            Op::SolarizeAdd => word(14, &[f64::from(x as u8)]),
            Op::Invert => word(15, &[]),
            Op::AutoContrast => word(16, &[]),
            Op::Equalize => word(17, &[]),
            Op::Sharpness => return None,
            Op::Rotate => return Self::Rotate { angle: x, filter, center: None, fill }.encode(size),
            Op::ShearX | Op::ShearY | Op::TranslateX | Op::TranslateY => {
                encode_map(Map::Affine(step.matrix()?), filter, fill, size)
            }
        })
    }
}

/// Kinds 18 to 23: affine by fixed point, then affine and perspective by filter. Two fill levels share a number.
fn encode_map(map: Map, filter: Filter, fill: [u8; 3], size: [usize; 2]) -> [f64; WORDS] {
    let mut words = [0.0; WORDS];
    let [r, g, b] = fill.map(f64::from);
    words[1] = r + 256.0 * g + 65536.0 * b;
    match map {
        Map::Affine(m) => {
            let fixed = filter == Filter::Nearest && (m[1] != 0.0 || m[3] != 0.0) && warp::fits_fixed(m, size);
            words[0] = if fixed { 18.0 } else { 19.0 + f64::from(filter as u8) };
            words[2..8].copy_from_slice(&m);
        }
        Map::Perspective(m) => {
            words[0] = 22.0 + f64::from(filter as u8);
            words[2..10].copy_from_slice(&m);
        }
    }
    words
}
