//! A small float picture and the few operations the renderer and the forger need.

use crate::tensor::{Image, Rng};

pub type Rgb = [f32; 3];

/// A square RGB picture, values 0 to 1.
#[derive(Clone)]
pub struct Canvas {
    pub side: usize,
    pixels: Vec<Rgb>,
}

impl Canvas {
    /// The picture whose colour at `(x, y)` is `paint(x, y)`.
    pub fn paint(side: usize, mut paint: impl FnMut(usize, usize) -> Rgb) -> Self {
        let mut pixels = Vec::with_capacity(side * side);
        for y in 0..side {
            pixels.extend((0..side).map(|x| paint(x, y)));
        }
        Self { side, pixels }
    }

    /// The colour at a pixel; outside, that of the nearest edge.
    pub fn at(&self, x: isize, y: isize) -> Rgb {
        let clamp = |v: isize| v.clamp(0, self.side as isize - 1) as usize;
        self.pixels[clamp(y) * self.side + clamp(x)]
    }

    /// The colour between pixels, bilinear.
    pub fn between(&self, x: f32, y: f32) -> Rgb {
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = (x - left, y - top);
        let (left, top) = (left as isize, top as isize);
        let upper = mix(self.at(left, top), self.at(left + 1, top), fx);
        let lower = mix(self.at(left, top + 1), self.at(left + 1, top + 1), fx);
        mix(upper, lower, fy)
    }

    /// This picture where `mask` is 0, `other` where it is 1.
    pub fn blend(&self, other: &Self, mask: impl Fn(usize, usize) -> f32) -> Self {
        Self::paint(self.side, |x, y| {
            let at = y * self.side + x;
            mix(self.pixels[at], other.pixels[at], mask(x, y))
        })
    }

    /// Changes every colour.
    pub fn map(&self, mut change: impl FnMut(Rgb) -> Rgb) -> Self {
        Self { side: self.side, pixels: self.pixels.iter().map(|&rgb| change(rgb)).collect() }
    }

    /// Gaussian blur; `sigma` in pixels.
    pub fn blur(&self, sigma: f32) -> Self {
        let reach = (3.0 * sigma).ceil() as isize;
        let weights: Vec<f32> = (-reach..=reach).map(|d| (-0.5 * (d as f32 / sigma).powi(2)).exp()).collect();
        let total: f32 = weights.iter().sum();
        let pass = |from: &Self, dx: isize, dy: isize| {
            Self::paint(self.side, |x, y| {
                let mut sum = [0.0; 3];
                for (d, weight) in (-reach..=reach).zip(&weights) {
                    let rgb = from.at(x as isize + d * dx, y as isize + d * dy);
                    (0..3).for_each(|c| sum[c] += rgb[c] * weight / total);
                }
                sum
            })
        };
        pass(&pass(self, 1, 0), 0, 1)
    }

    /// Sensor noise: `sigma` for brightness, half of it again for each channel.
    pub fn noise(&self, sigma: f32, rng: &mut Rng) -> Self {
        self.map(|rgb| {
            let grey = rng.normal() as f32 * sigma;
            rgb.map(|v| v + grey + rng.normal() as f32 * sigma * 0.5)
        })
    }

    /// The mean colour under `mask`.
    pub fn mean(&self, mask: impl Fn(usize, usize) -> f32) -> Rgb {
        let (mut sum, mut total) = ([0.0f64; 3], 1e-6f64);
        for (at, rgb) in self.pixels.iter().enumerate() {
            let weight = f64::from(mask(at % self.side, at / self.side));
            (0..3).for_each(|c| sum[c] += f64::from(rgb[c]) * weight);
            total += weight;
        }
        sum.map(|v| (v / total) as f32)
    }

    pub fn to_image(&self) -> Image {
        let byte = |v: &f32| (v * 255.0).round().clamp(0.0, 255.0) as u8;
        Image { width: self.side, height: self.side, pixels: self.pixels.iter().flatten().map(byte).collect() }
    }
}

/// `a` where `share` is 0, `b` where it is 1.
pub fn mix(a: Rgb, b: Rgb, share: f32) -> Rgb {
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * share)
}

/// Smooth random values over the unit square, about -1 to 1: a coarse grid, interpolated.
pub struct Field {
    cells: usize,
    values: Vec<f32>,
}

impl Field {
    pub fn new(cells: usize, rng: &mut Rng) -> Self {
        let values = (0..(cells + 1) * (cells + 1)).map(|_| rng.range(-1.0, 1.0) as f32).collect();
        Self { cells, values }
    }

    pub fn at(&self, x: f32, y: f32) -> f32 {
        let place = |v: f32| {
            let v = v.clamp(0.0, 0.999_99) * self.cells as f32;
            let t = v.fract();
            (v as usize, t * t * (3.0 - 2.0 * t))
        };
        let ((x, fx), (y, fy)) = (place(x), place(y));
        let value = |x: usize, y: usize| self.values[y * (self.cells + 1) + x];
        let upper = value(x, y) + (value(x + 1, y) - value(x, y)) * fx;
        let lower = value(x, y + 1) + (value(x + 1, y + 1) - value(x, y + 1)) * fx;
        upper + (lower - upper) * fy
    }
}
