//! A face over itself: where the copy lies, and where it shows.

use crate::tensor::{Image, Rng};
use std::f32::consts::TAU;

/// The place of a copy and the mask it shows through, in parts of the image's side.
#[derive(Clone, Debug, PartialEq)]
pub struct Blend {
    mask: Mask,
    /// How much of the copy shows where the mask is whole.
    ratio: f32,
    /// How far the copy moves to the right and down, and its size.
    shift: [f32; 2],
    scale: [f32; 2],
}

/// A soft blob: an ellipse whose edge a few waves bend, whole inside and fading towards the edge.
#[derive(Clone, Debug, PartialEq)]
struct Mask {
    centre: [f32; 2],
    radii: [f32; 2],
    /// Height and phase of the second to the fifth harmonic of the edge.
    waves: [[f32; 2]; 4],
    /// The part of the radius over which the mask fades.
    softness: f32,
}

impl Mask {
    fn draw(rng: &mut Rng) -> Self {
        let mut between = |low: f64, high: f64| rng.range(low, high) as f32;
        Self {
            centre: [between(0.45, 0.55), between(0.47, 0.58)],
            radii: [between(0.22, 0.36), between(0.28, 0.44)],
            waves: [0.10, 0.07, 0.05, 0.04].map(|height| [between(0.0, height), between(0.0, f64::from(TAU))]),
            softness: between(0.1, 0.7),
        }
    }

    /// 0 outside, 1 well inside.
    fn at(&self, [x, y]: [f32; 2]) -> f32 {
        let (u, v) = ((x - self.centre[0]) / self.radii[0], (y - self.centre[1]) / self.radii[1]);
        let angle = v.atan2(u);
        let wave = |(harmonic, [height, phase]): (f32, &[f32; 2])| height * (harmonic * angle + phase).cos();
        let edge = 1.0 + [2.0, 3.0, 4.0, 5.0].into_iter().zip(&self.waves).map(wave).sum::<f32>();
        let inside = ((edge - u.hypot(v)) / self.softness).clamp(0.0, 1.0);
        inside * inside * (3.0 - 2.0 * inside)
    }
}

impl Blend {
    /// Moves and sizes of the original: 3 % to the sides, 1.5 % up and down, 5 % smaller to larger on each axis.
    pub fn draw(ratio: f32, rng: &mut Rng) -> Self {
        let mask = Mask::draw(rng);
        let mut between = |low: f64, high: f64| rng.range(low, high) as f32;
        let shift = [between(-0.03, 0.03), between(-0.015, 0.015)];
        Self { mask, ratio, shift, scale: [between(0.95, 1.0 / 0.95), between(0.95, 1.0 / 0.95)] }
    }

    /// `source` moved, over `target`, through the mask, which moves along. Both of one size.
    pub fn apply(&self, source: &Image, target: &Image) -> Image {
        let mut blended = target.clone();
        let size = [target.width as f32, target.height as f32];
        for y in 0..target.height {
            for x in 0..target.width {
                let here = [(x as f32 + 0.5) / size[0], (y as f32 + 0.5) / size[1]];
                let share = self.share(here);
                if share > 0.0 {
                    let (over, under) = (between(source, self.origin(here)), target.pixel(x, y));
                    let mix = |c: usize| (share * over[c] + (1.0 - share) * f32::from(under[c]) + 0.5) as u8;
                    blended.set_pixel(x, y, [mix(0), mix(1), mix(2)]);
                }
            }
        }
        blended
    }

    /// The share of the copy at a point of the blended image.
    pub fn share(&self, here: [f32; 2]) -> f32 {
        self.ratio * self.mask.at(self.origin(here))
    }

    /// Where a point of the blended image lies in the copy.
    fn origin(&self, here: [f32; 2]) -> [f32; 2] {
        [0, 1].map(|axis| (here[axis] - 0.5 - self.shift[axis]) / self.scale[axis] + 0.5)
    }
}

/// The colour between pixels, bilinear; the edge goes on outside.
pub(super) fn between(image: &Image, [x, y]: [f32; 2]) -> [f32; 3] {
    let axis = |at: f32, length: usize| {
        let at = (at * length as f32 - 0.5).clamp(0.0, (length - 1) as f32);
        let low = at as usize;
        (low, (low + 1).min(length - 1), at - low as f32)
    };
    let ((x0, x1, fx), (y0, y1, fy)) = (axis(x, image.width), axis(y, image.height));
    let [a, b, c, d] = [(x0, y0), (x1, y0), (x0, y1), (x1, y1)].map(|(x, y)| image.pixel(x, y).map(f32::from));
    std::array::from_fn(|i| {
        let (upper, lower) = (a[i] + fx * (b[i] - a[i]), c[i] + fx * (d[i] - c[i]));
        upper + fy * (lower - upper)
    })
}
