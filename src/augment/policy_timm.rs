//! timm's RandAugment (`timm/data/auto_augment.py`): its operations, and how a level from 0 to 10 becomes an argument.

use super::policy::{Op, Step};
use crate::tensor::Rng;

/// `_RAND_TRANSFORMS`, and in the same order `_RAND_INCREASING_TRANSFORMS`.
pub const OPS: [Op; 15] = [
    Op::AutoContrast,
    Op::Equalize,
    Op::Invert,
    Op::Rotate,
    Op::Posterize,
    Op::Solarize,
    Op::SolarizeAdd,
    Op::Color,
    Op::Contrast,
    Op::Brightness,
    Op::Sharpness,
    Op::ShearX,
    Op::ShearY,
    Op::TranslateX,
    Op::TranslateY,
];

/// The strongest level.
const STRONGEST: f64 = 10.0;
/// From here on `mstd` means levels that are uniform from 0 on.
const UNIFORM: f64 = 100.0;

/// A level around `magnitude` with this standard deviation, within 0 to 10.
pub fn draw_level(magnitude: f64, mstd: f64, rng: &mut Rng) -> f64 {
    let level = match mstd {
        0.0 => magnitude,
        mstd if mstd > UNIFORM => rng.range(0.0, magnitude),
        mstd => magnitude + mstd * rng.normal(),
    };
    level.clamp(0.0, STRONGEST)
}

/// An operation at a level, to the other side where it has two and `negative` says so; with `increasing` a higher level
/// is always a stronger change. `size` is the image's width and height.
pub fn step(op: Op, level: f64, increasing: bool, negative: bool, size: [usize; 2]) -> Step {
    let share = level / STRONGEST;
    let sign = if negative { -1.0 } else { 1.0 };
    let moved = |side: usize| sign * share * 0.45 * side as f64;
    let argument = match op {
        Op::Identity | Op::AutoContrast | Op::Equalize | Op::Invert => 0.0,
        Op::Rotate => sign * share * 30.0,
        Op::Posterize if increasing => 4.0 - (share * 4.0).trunc(),
        Op::Posterize => (share * 4.0).trunc(),
        Op::Solarize if increasing => 256.0 - (share * 256.0).trunc(),
        Op::Solarize => (share * 256.0).trunc(),
        Op::SolarizeAdd => (share * 110.0).trunc(),
        Op::Color | Op::Contrast | Op::Brightness | Op::Sharpness if increasing => {
            (1.0 + sign * (share * 0.9)).max(0.1)
        }
        Op::Color | Op::Contrast | Op::Brightness | Op::Sharpness => share * 1.8 + 0.1,
        Op::ShearX | Op::ShearY => sign * share * 0.3,
        Op::TranslateX => moved(size[0]),
        Op::TranslateY => moved(size[1]),
    };
    Step { op, argument }
}
