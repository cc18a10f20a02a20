//! Pillow's `Image.transform` and `Image.rotate` on 8-bit RGB images, bit for bit (libImaging `Geometry.c`), and the
//! matrices that torchvision's functions on PIL images give them.

use crate::tensor::Image;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a pixel between pixels is read. No antialiasing, as Pillow's transforms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    #[default]
    Nearest,
    Bilinear,
    /// Keys 1981 with a = -1, as Pillow's transforms; its resizing has a = -0.5.
    Bicubic,
}

/// Where an output pixel comes from, by continuous coordinates with the first pixel's centre at `(0.5, 0.5)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Map {
    /// `(a x + b y + c, d x + e y + f)`.
    Affine([f64; 6]),
    /// `((a x + b y + c) / (g x + h y + 1), (d x + e y + f) / (g x + h y + 1))`.
    Perspective([f64; 8]),
}

/// `image.transform((width, height), .., resample=filter, fillcolor=fill)`.
pub fn transform(image: &Image, size: [usize; 2], map: Map, filter: Filter, fill: [u8; 3]) -> Image {
    match (map, filter) {
        (Map::Affine(m), Filter::Nearest) if m[1] == 0.0 && m[3] == 0.0 => scale(image, size, m, fill),
        (Map::Affine(m), Filter::Nearest) if fits_fixed(m, size) => affine_fixed(image, size, m, fill),
        (Map::Affine([a, b, c, d, e, f]), _) => {
            warp(image, size, filter, fill, |x, y| [a * x + b * y + c, d * x + e * y + f])
        }
        (Map::Perspective([a, b, c, d, e, f, g, h]), _) => warp(image, size, filter, fill, |x, y| {
            let depth = g * x + h * y + 1.0;
            [(a * x + b * y + c) / depth, (d * x + e * y + f) / depth]
        }),
    }
}

/// `image.rotate(angle, filter, center=center, fillcolor=fill)`: counter-clockwise, in degrees, at the same size.
pub fn rotate(image: &Image, angle: f64, filter: Filter, center: Option<[f64; 2]>, fill: [u8; 3]) -> Image {
    let size = [image.width, image.height];
    match rotation(size, angle, center) {
        Rotation::Quarters(0) => image.clone(),
        Rotation::Quarters(1) => rearranged(image, |x, y| [size[0] - 1 - y, x]),
        Rotation::Quarters(2) => rearranged(image, |x, y| [size[0] - 1 - x, size[1] - 1 - y]),
        Rotation::Quarters(_) => rearranged(image, |x, y| [y, size[1] - 1 - x]),
        Rotation::Map(map) => transform(image, size, map, filter, fill),
    }
}

/// How Pillow rotates an image of this size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rotation {
    /// By so many right angles, counter-clockwise, pixel by pixel.
    Quarters(usize),
    Map(Map),
}

/// What `image.rotate(angle, center=center)` does: right angles are special.
pub fn rotation(size: [usize; 2], angle: f64, center: Option<[f64; 2]>) -> Rotation {
    let angle = angle.rem_euclid(360.0);
    let square = size[0] == size[1];
    match angle {
        0.0 if center.is_none() => return Rotation::Quarters(0),
        180.0 if center.is_none() => return Rotation::Quarters(2),
        90.0 if center.is_none() && square => return Rotation::Quarters(1),
        270.0 if center.is_none() && square => return Rotation::Quarters(3),
        _ => {}
    }
    let [cx, cy] = center.unwrap_or(size.map(|length| length as f64 / 2.0));
    let radians = -angle.to_radians();
    // In decimal, as Python's `round(value, 15)`.
    let round = |value: f64| format!("{value:.15}").parse().unwrap_or(value);
    let (cos, sin) = (round(radians.cos()), round(radians.sin()));
    let mut matrix = [cos, sin, 0.0, -sin, cos, 0.0];
    let [x, y] = apply(&matrix, -cx, -cy);
    (matrix[2], matrix[5]) = (x + cx, y + cy);
    Rotation::Map(Map::Affine(matrix))
}

fn apply(&[a, b, c, d, e, f]: &[f64; 6], x: f64, y: f64) -> [f64; 2] {
    [a * x + b * y + c, d * x + e * y + f]
}

/// An image of the same size whose pixel `(x, y)` is the one at `from(x, y)`.
fn rearranged(image: &Image, from: impl Fn(usize, usize) -> [usize; 2]) -> Image {
    let mut out = Image::new(image.width, image.height);
    for (y, x) in (0..image.height).flat_map(|y| (0..image.width).map(move |x| (y, x))) {
        let [from_x, from_y] = from(x, y);
        out.set_pixel(x, y, image.pixel(from_x, from_y));
    }
    out
}

/// torchvision's `_get_inverse_affine_matrix`: rotation by `angle` and shear by `shear` (degrees) about `center`, then
/// `translate` (pixels); for [`Map::Affine`].
pub fn inverse_affine(center: [f64; 2], angle: f64, translate: [f64; 2], scale: f64, shear: [f64; 2]) -> Map {
    let (rot, [sx, sy]) = (angle.to_radians(), shear.map(f64::to_radians));
    let ([cx, cy], [tx, ty]) = (center, translate);
    let a = (rot - sy).cos() / sy.cos();
    let b = -(rot - sy).cos() * sx.tan() / sy.cos() - rot.sin();
    let c = (rot - sy).sin() / sy.cos();
    let d = -(rot - sy).sin() * sx.tan() / sy.cos() + rot.cos();
    let mut m = [d, -b, 0.0, -c, a, 0.0].map(|value| value / scale);
    m[2] += m[0] * (-cx - tx) + m[1] * (-cy - ty);
    m[5] += m[3] * (-cx - tx) + m[4] * (-cy - ty);
    m[2] += cx;
    m[5] += cy;
    Map::Affine(m)
}

/// torchvision's `functional.affine` on PIL images; `center`: the image's, unless given (AutoAugment shears about `[0, 0]`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Clockwise, in degrees.
    pub angle: f64,
    /// In pixels.
    pub translate: [f64; 2],
    pub scale: f64,
    /// Along x and along y, in degrees.
    pub shear: [f64; 2],
    pub center: Option<[f64; 2]>,
}

impl Default for Affine {
    /// No change.
    fn default() -> Self {
        Self { angle: 0.0, translate: [0.0; 2], scale: 1.0, shear: [0.0; 2], center: None }
    }
}

impl Affine {
    pub fn apply(&self, image: &Image, filter: Filter, fill: [u8; 3]) -> Image {
        let size = [image.width, image.height];
        transform(image, size, self.map(size), filter, fill)
    }

    /// Where the pixels of an image of this size come from.
    pub fn map(&self, size: [usize; 2]) -> Map {
        let center = self.center.unwrap_or(size.map(|length| length as f64 * 0.5));
        inverse_affine(center, self.angle, self.translate, self.scale, self.shear)
    }
}

/// torchvision's `_get_perspective_coeffs`, rounded to f32 as there: the map that takes the `end` corners of the output
/// to the `start` corners of the image. `None` where three corners lie on one line.
pub fn perspective(start: [[f64; 2]; 4], end: [[f64; 2]; 4]) -> Option<Map> {
    let mut rows = [[0.0; 9]; 8];
    for (i, ([sx, sy], [ex, ey])) in start.into_iter().zip(end).enumerate() {
        rows[2 * i] = [ex, ey, 1.0, 0.0, 0.0, 0.0, -sx * ex, -sx * ey, sx];
        rows[2 * i + 1] = [0.0, 0.0, 0.0, ex, ey, 1.0, -sy * ex, -sy * ey, sy];
    }
    solve(rows).map(|solution| Map::Perspective(solution.map(|value| f64::from(value as f32))))
}

/// Gauss-Jordan elimination with row pivots.
fn solve(mut rows: [[f64; 9]; 8]) -> Option<[f64; 8]> {
    for column in 0..8 {
        let pivot = (column..8).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))?;
        rows.swap(column, pivot);
        if rows[column][column].abs() < 1e-12 {
            return None;
        }
        let pivot = rows[column].map(|value| value / rows[column][column]);
        rows[column] = pivot;
        for (_, row) in rows.iter_mut().enumerate().filter(|(at, _)| *at != column) {
            let factor = row[column];
            row.iter_mut().zip(pivot).for_each(|(value, pivot)| *value -= factor * pivot);
        }
    }
    Some(rows.map(|row| row[8]))
}

/// An image of one colour.
pub fn filled([width, height]: [usize; 2], fill: [u8; 3]) -> Image {
    Image { width, height, pixels: fill.repeat(width * height) }
}

/// Any map and filter (`ImagingGenericTransform`); `from` is where an output point comes from. Points outside the image
/// keep the fill.
pub(super) fn warp(
    image: &Image,
    size: [usize; 2],
    filter: Filter,
    fill: [u8; 3],
    from: impl Fn(f64, f64) -> [f64; 2],
) -> Image {
    match filter {
        Filter::Nearest => warp_with(image, size, fill, from, nearest),
        Filter::Bilinear => warp_with(image, size, fill, from, bilinear),
        Filter::Bicubic => warp_with(image, size, fill, from, bicubic),
    }
}

fn warp_with(
    image: &Image,
    size: [usize; 2],
    fill: [u8; 3],
    from: impl Fn(f64, f64) -> [f64; 2],
    read: impl Fn(&Image, f64, f64) -> [u8; 3],
) -> Image {
    let mut out = filled(size, fill);
    let (width, height) = (image.width as f64, image.height as f64);
    for (y, row) in out.pixels.chunks_exact_mut(size[0].max(1) * 3).enumerate() {
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let [from_x, from_y] = from(x as f64 + 0.5, y as f64 + 0.5);
            // Not the negation of "outside": a point that is not a number lies nowhere.
            if from_x >= 0.0 && from_x < width && from_y >= 0.0 && from_y < height {
                *pixel = read(image, from_x, from_y);
            }
        }
    }
    out
}

fn nearest(image: &Image, x: f64, y: f64) -> [u8; 3] {
    image.pixel(x as usize, y as usize)
}

/// The byte positions of `N` neighbours along one axis from `first`, the last ones repeated beyond the image.
fn neighbours<const N: usize>(first: isize, size: usize, step: usize) -> [usize; N] {
    std::array::from_fn(|i| (first + i as isize).clamp(0, size as isize - 1) as usize * step)
}

fn bilinear(image: &Image, x: f64, y: f64) -> [u8; 3] {
    let (x, y) = (x - 0.5, y - 0.5);
    let (left, top) = (x.floor(), y.floor());
    let (dx, dy) = (x - left, y - top);
    let columns = neighbours::<2>(left as isize, image.width, 3);
    let rows = neighbours::<2>(top as isize, image.height, image.width * 3);
    let mix = |a: f64, b: f64, d: f64| a + (b - a) * d;
    std::array::from_fn(|channel| {
        let at = |row: usize, column: usize| f64::from(image.pixels[row + column + channel]);
        let [above, below] = rows.map(|row| mix(at(row, columns[0]), at(row, columns[1]), dx));
        mix(above, below, dy) as u8
    })
}

fn bicubic(image: &Image, x: f64, y: f64) -> [u8; 3] {
    let (x, y) = (x - 0.5, y - 0.5);
    let (left, top) = (x.floor(), y.floor());
    let (dx, dy) = (x - left, y - top);
    let columns = neighbours::<4>(left as isize - 1, image.width, 3);
    let rows = neighbours::<4>(top as isize - 1, image.height, image.width * 3);
    std::array::from_fn(|channel| {
        let at = |row: usize, column: usize| f64::from(image.pixels[row + column + channel]);
        cubic(rows.map(|row| cubic(columns.map(|column| at(row, column)), dx)), dy) as u8
    })
}

/// The cubic through the middle two of four values, at `d` between them.
fn cubic([a, b, c, d]: [f64; 4], at: f64) -> f64 {
    let (first, second, third) = (-a + c, 2.0 * (a - b) + c - d, -a + b - c + d);
    b + at * (first + at * (second + at * third))
}

/// `ImagingScaleAffine`: positions are summed up, not multiplied, so that the same rounding decides.
fn scale(image: &Image, size: [usize; 2], m: [f64; 6], fill: [u8; 3]) -> Image {
    let columns = summed(m[2] + m[0] * 0.5, m[0], size[0], image.width);
    let rows = summed(m[5] + m[4] * 0.5, m[4], size[1], image.height);
    let mut out = filled(size, fill);
    for (y, row) in rows.iter().enumerate().filter_map(|(y, row)| Some((y, (*row)?))) {
        for (x, column) in columns.iter().enumerate().filter_map(|(x, column)| Some((x, (*column)?))) {
            out.set_pixel(x, y, image.pixel(column, row));
        }
    }
    out
}

fn summed(start: f64, step: f64, count: usize, size: usize) -> Vec<Option<usize>> {
    let mut at = start;
    let inside = |at: f64| (at >= 0.0 && at < size as f64).then_some(at as usize);
    (0..count)
        .map(|_| {
            let position = inside(at);
            at += step;
            position
        })
        .collect()
}

/// Whether every corner fits 16 bits before the point (`check_fixed`).
pub(super) fn fits_fixed(m: [f64; 6], [width, height]: [usize; 2]) -> bool {
    let (width, height) = (width as f64, height as f64);
    let corners = [[0.0, 0.0], [width, height], [0.0, height], [width, 0.0]];
    corners.iter().all(|&[x, y]| apply(&m, x, y).iter().all(|value| value.abs() < 32768.0))
}

/// `affine_fixed`: nearest neighbour with 16 bits behind the point.
fn affine_fixed(image: &Image, size: [usize; 2], m: [f64; 6], fill: [u8; 3]) -> Image {
    let fix = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
    let [a, b, d, e] = [m[0], m[1], m[3], m[4]].map(fix);
    let mut start = [fix(m[2] + m[0] * 0.5 + m[1] * 0.5), fix(m[5] + m[3] * 0.5 + m[4] * 0.5)];
    let (width, height) = (image.width as i64, image.height as i64);
    let mut out = filled(size, fill);
    for row in out.pixels.chunks_exact_mut(size[0].max(1) * 3) {
        let [mut x, mut y] = start;
        for pixel in row.as_chunks_mut::<3>().0 {
            let (from_x, from_y) = (x >> 16, y >> 16);
            if (0..width).contains(&from_x) && (0..height).contains(&from_y) {
                *pixel = image.pixel(from_x as usize, from_y as usize);
            }
            x += a;
            y += d;
        }
        start = [start[0] + b, start[1] + e];
    }
    out
}
