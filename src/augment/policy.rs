//! What the automatic policies are made of: one table of operations, and how strong each policy of torchvision makes
//! them.

use super::{
    filters, pillow, pillow_levels,
    warp::{Filter, Map, rotate, transform},
};
use crate::tensor::{Image, Rng};

/// An operation; beside it what its argument means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Identity,
    /// Pixels to the left for each pixel down.
    ShearX,
    /// Pixels up for each pixel to the right.
    ShearY,
    /// Pixels to the right.
    TranslateX,
    /// Pixels down.
    TranslateY,
    /// Degrees, counter-clockwise.
    Rotate,
    /// A factor, as of `color_jitter`.
    Brightness,
    /// A factor: 0 is gray.
    Color,
    /// A factor, as of `color_jitter`.
    Contrast,
    /// A factor, as of `sharpness`.
    Sharpness,
    /// Bits that stay.
    Posterize,
    /// The lowest level that is inverted.
    Solarize,
    /// What is added to the lower half of the levels. timm's alone.
    SolarizeAdd,
    AutoContrast,
    Equalize,
    Invert,
}

/// An operation with its argument: what a policy draws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub op: Op,
    /// See [`Op`]; 0 where there is none.
    pub argument: f64,
}

/// How an operation that moves pixels reads them, and what it leaves where there are none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Canvas {
    pub filter: Filter,
    pub fill: [u8; 3],
}

impl Step {
    /// Where the pixels of a sheared or moved image come from.
    pub fn matrix(self) -> Option<[f64; 6]> {
        let x = self.argument;
        match self.op {
            Op::ShearX => Some([1.0, x, 0.0, 0.0, 1.0, 0.0]),
            Op::ShearY => Some([1.0, 0.0, 0.0, x, 1.0, 0.0]),
            Op::TranslateX => Some([1.0, 0.0, -x, 0.0, 1.0, 0.0]),
            Op::TranslateY => Some([1.0, 0.0, 0.0, 0.0, 1.0, -x]),
            _ => None,
        }
    }

    pub fn apply(self, image: &mut Image, Canvas { filter, fill }: Canvas) {
        let x = self.argument;
        match self.op {
            Op::Identity => {}
            Op::ShearX | Op::ShearY | Op::TranslateX | Op::TranslateY => {
                if let Some(matrix) = self.matrix() {
                    *image = transform(image, [image.width, image.height], Map::Affine(matrix), filter, fill);
                }
            }
            Op::Rotate => *image = rotate(image, x, filter, None, fill),
            Op::Brightness => pillow::adjust_brightness(image, x),
            Op::Color => pillow::adjust_saturation(image, x),
            Op::Contrast => pillow::adjust_contrast(image, x),
            Op::Sharpness => filters::adjust_sharpness(image, x),
            Op::Posterize => pillow_levels::posterize(image, x as u32),
            Op::Solarize => pillow_levels::solarize(image, x),
            Op::SolarizeAdd => pillow_levels::solarize_add(image, x as u8),
            Op::AutoContrast => pillow_levels::autocontrast(image),
            Op::Equalize => pillow_levels::equalize(image),
            Op::Invert => pillow_levels::invert(image),
        }
    }
}

/// How far the operations of one of torchvision's policies go: the ends of its `_augmentation_space`.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// How many magnitudes from no change to the strongest; at least 2.
    pub bins: usize,
    pub shear: f64,
    pub translate: Translate,
    pub rotate: f64,
    /// How far brightness, colour, contrast and sharpness go from 1.
    pub enhance: f64,
    /// Bits that `Posterize` keeps at the first bin, and at the last.
    pub bits: [u32; 2],
}

/// How far an image is moved at most.
#[derive(Clone, Copy, Debug)]
pub enum Translate {
    Pixels(f64),
    /// Of the image's side.
    Share(f64),
}

impl Space {
    /// That of `RandAugment` and `AutoAugment`.
    pub const fn standard(bins: usize) -> Self {
        let translate = Translate::Share(150.0 / 331.0);
        Self { bins, shear: 0.3, translate, rotate: 30.0, enhance: 0.9, bits: [8, 4] }
    }

    /// An operation at one of the bins, to the other side where it has two and `negative` says so; `size` is the
    /// image's width and height.
    pub fn step(&self, op: Op, bin: usize, negative: bool, size: [usize; 2]) -> Step {
        let sign = if negative { -1.0 } else { 1.0 };
        let signed = |end: f64| sign * self.linear(0.0, end, bin);
        let pixels = |side: usize| match self.translate {
            Translate::Pixels(pixels) => signed(pixels).trunc(),
            Translate::Share(share) => signed(share * side as f64).trunc(),
        };
        let argument = match op {
            Op::Identity | Op::AutoContrast | Op::Equalize | Op::Invert | Op::SolarizeAdd => 0.0,
            Op::ShearX | Op::ShearY => signed(self.shear),
            Op::TranslateX => pixels(size[0]),
            Op::TranslateY => pixels(size[1]),
            Op::Rotate => signed(self.rotate),
            Op::Brightness | Op::Color | Op::Contrast | Op::Sharpness => 1.0 + signed(self.enhance),
            Op::Posterize => f64::from(self.kept_bits(bin)),
            Op::Solarize => self.linear(255.0, 0.0, bin),
        };
        Step { op, argument }
    }

    /// An operation drawn from these, at this bin, to either side.
    pub fn draw(&self, ops: &[Op], bin: usize, size: [usize; 2], rng: &mut Rng) -> Step {
        let op = ops[rng.below(ops.len())];
        self.step(op, bin, rng.chance(0.5), size)
    }

    /// `torch.linspace(from, to, bins)[bin]`, exactly and rounded to f32; torch's last bit depends on the machine.
    fn linear(&self, from: f64, to: f64, bin: usize) -> f64 {
        let step = (to - from) / (self.bins - 1) as f64;
        f64::from((bin as f64 * step + from) as f32)
    }

    /// `first - (arange(bins) / ((bins - 1) / (first - last))).round()`, in f32.
    fn kept_bits(&self, bin: usize) -> u32 {
        let [first, last] = self.bits;
        let bins_a_bit = ((self.bins - 1) as f64 / f64::from(first - last)) as f32;
        first - (bin as f32 / bins_a_bit).round_ties_even() as u32
    }
}

/// What `RandAugment` and `TrivialAugmentWide` of torchvision choose from.
pub const RAND_AUGMENT_OPS: [Op; 14] = [
    Op::Identity,
    Op::ShearX,
    Op::ShearY,
    Op::TranslateX,
    Op::TranslateY,
    Op::Rotate,
    Op::Brightness,
    Op::Color,
    Op::Contrast,
    Op::Sharpness,
    Op::Posterize,
    Op::Solarize,
    Op::AutoContrast,
    Op::Equalize,
];
