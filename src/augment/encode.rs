//! Changes as a GPU reads them: `tensor/gpu/kernels/augment/`.

use super::{
    aug_mix::Mixture,
    change::{self, Change},
    filters,
    grid_mask::{Erased, Grid, GridMask},
    policy::{self, Canvas, Op},
    warp::{self, Filter, Map, Rotation},
};
use crate::tensor::{Interpolation, Rng, center_margin, resize};

/// What a GPU knows, by the numbers of `kernels/augment/canvas.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    FlipHorizontal = 1,
    FlipVertical,
    Hue,
    Grayscale,
    Channels,
    Fill,
    Scatter,
    Crop,
    Pad,
    Quarters,
    Brightness,
    Contrast,
    Color,
    Sharpness,
    Posterize,
    Solarize,
    SolarizeAdd,
    Invert,
    AutoContrast,
    Equalize,
    Warp,
    Resize,
    Blur,
    Noise,
    Elastic,
    Grid,
    MixtureBegin,
    MixtureAdd,
    MixtureEnd,
    Jpeg,
}

/// Where a pixel comes from, by the numbers of `kernels/augment/move.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Source {
    /// By whole right angles.
    Quarters,
    /// Nearest pixels of an image that is scaled and moved only.
    Scaled,
    /// Nearest pixels, in fixed point.
    Fixed,
    Affine,
    Perspective,
}

/// What is done to one image, and the room it takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// For each change its kind, how many numbers it is long, these two included, and what belongs to it.
    pub words: Vec<f64>,
    pub room: Room,
}

/// Bytes beside the image that a GPU works in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// The largest that the image becomes.
    pub canvas: usize,
    /// What a change notes down.
    pub notes: usize,
    /// What is kept from change to change.
    pub kept: usize,
}

impl Room {
    /// Rounded up to what any number may begin at.
    pub fn aligned(self) -> Self {
        let up = |bytes: usize| bytes.next_multiple_of(16);
        Self { canvas: up(self.canvas), notes: up(self.notes), kept: up(self.kept) }
    }

    /// Enough for both.
    pub fn and(self, other: Self) -> Self {
        Self {
            canvas: self.canvas.max(other.canvas),
            notes: self.notes.max(other.notes),
            kept: self.kept.max(other.kept),
        }
    }
}

fn packed([r, g, b]: [u8; 3]) -> f64 {
    f64::from(r) + 256.0 * f64::from(g) + 65536.0 * f64::from(b)
}

fn numbers<const N: usize>(values: [usize; N]) -> [f64; N] {
    values.map(|value| value as f64)
}

/// The key's words, and where the next number stands.
fn stream(rng: &Rng) -> [f64; 3] {
    let ([low, high], at) = rng.place();
    [f64::from(low), f64::from(high), at as f64]
}

impl Program {
    /// The changes to an image of this size; `None` where one is for the CPU alone.
    pub fn new(changes: &[Change], size: [usize; 2]) -> Option<Self> {
        let mut program = Self::default();
        program.need_canvas(size);
        for (place, change) in changes.iter().enumerate() {
            let before = change::size_after(&changes[..place], size);
            program.change(change, before)?;
            program.need_canvas(change.size(before));
        }
        Some(program)
    }

    fn put(&mut self, kind: Kind, values: &[f64]) {
        self.words.extend([f64::from(kind as u8), values.len() as f64 + 2.0]);
        self.words.extend(values);
    }

    fn need_canvas(&mut self, [width, height]: [usize; 2]) {
        self.room.canvas = self.room.canvas.max(width * height * 3);
    }

    fn need_notes(&mut self, bytes: usize) {
        self.room.notes = self.room.notes.max(bytes);
    }

    fn change(&mut self, change: &Change, size: [usize; 2]) -> Option<()> {
        match change {
            Change::FlipHorizontal => self.put(Kind::FlipHorizontal, &[]),
            Change::FlipVertical => self.put(Kind::FlipVertical, &[]),
            Change::Hue(turn) => self.put(Kind::Hue, &[f64::from((turn * 255.0) as i32 as u8)]),
            Change::Grayscale => self.put(Kind::Grayscale, &[]),
            Change::Channels(order) => self.put(Kind::Channels, &numbers(*order)),
            Change::Step(step, canvas) => self.step(*step, *canvas, size),
            Change::Blur { kernel_size, sigma } => self.blur(&filters::gaussian(*kernel_size, *sigma), size),
            Change::Noise(noise, rng) => {
                let [mean, sigma] = noise.levels().map(f64::from);
                let [low, high, at] = stream(rng);
                self.put(Kind::Noise, &[mean, sigma, low, high, at]);
            }
            Change::Elastic(elastic, rng) => {
                let kernel = elastic.kernel();
                let head = [&[f64::from(elastic.strength()), packed(elastic.fill)], &stream(rng)[..]].concat();
                self.put(Kind::Elastic, &[head, weights(&kernel)].concat());
                self.need_notes(planes(&kernel, size));
            }
            Change::Grid(mask, grid, fill) => self.grid(mask, *grid, *fill, size),
            Change::Mixture(mixture, canvas) => self.mixture(mixture, *canvas, size),
            Change::Resize(to, filter) => self.resize(size, *to, *filter),
            Change::Jpeg(quality) => self.jpeg(*quality, size),
            Change::Webp(_) => return None,
            Change::Fill { .. } | Change::Scatter { .. } => self.boxed(change),
            Change::Crop { .. } | Change::CenterCrop(_) => self.cropped(change, size),
            Change::Pad { margin: [x, y], mode, fill } => {
                self.put(Kind::Pad, &[*x as f64, *y as f64, f64::from(*mode as u8), packed(*fill)]);
            }
            Change::Warp(map, filter, fill) => self.warp(*map, *filter, *fill, size),
            Change::Rotate { angle, filter, center, fill } => self.rotate(*angle, *center, *filter, *fill, size),
        }
        Some(())
    }

    fn boxed(&mut self, change: &Change) {
        match *change {
            Change::Fill { corner, size, colour } => {
                let ([x, y], [w, h]) = (numbers(corner), numbers(size));
                self.put(Kind::Fill, &[x, y, w, h, packed(colour)]);
            }
            Change::Scatter { corner, size, colours, ref rng } => {
                let [mean, std] = [colours.mean, colours.std].map(|values| values.map(f64::from));
                let head = [&numbers(corner)[..], &numbers(size), &stream(rng)].concat();
                self.put(Kind::Scatter, &[&head[..], &mean, &std].concat());
            }
            _ => {}
        }
    }

    fn cropped(&mut self, change: &Change, [width, height]: [usize; 2]) {
        let left = change.size([width, height]);
        if left == [width, height] {
            return;
        }
        let corner = match *change {
            Change::CenterCrop(side) => [center_margin(width, side), center_margin(height, side)],
            Change::Crop { corner, .. } => corner,
            _ => return,
        };
        self.put(Kind::Crop, &[numbers(corner), numbers(left)].concat());
    }

    fn rotate(&mut self, angle: f64, center: Option<[f64; 2]>, filter: Filter, fill: [u8; 3], size: [usize; 2]) {
        match warp::rotation(size, angle, center) {
            Rotation::Quarters(quarters) => self.put(Kind::Quarters, &[quarters as f64]),
            Rotation::Map(map) => self.warp(map, filter, fill, size),
        }
    }

    fn step(&mut self, step: policy::Step, Canvas { filter, fill }: Canvas, size: [usize; 2]) {
        let x = step.argument;
        match step.op {
            Op::Identity => {}
            Op::Brightness => self.put(Kind::Brightness, &[x]),
            Op::Contrast => self.put(Kind::Contrast, &[x]),
            Op::Color => self.put(Kind::Color, &[x]),
            Op::Sharpness => self.put(Kind::Sharpness, &[x]),
            Op::Posterize => self.put(Kind::Posterize, &[f64::from(x as u32)]),
            Op::Solarize => self.put(Kind::Solarize, &[x]),
            Op::SolarizeAdd => self.put(Kind::SolarizeAdd, &[f64::from(x as u8)]),
            Op::Invert => self.put(Kind::Invert, &[]),
            Op::AutoContrast => self.put(Kind::AutoContrast, &[]),
            Op::Equalize => self.put(Kind::Equalize, &[]),
            Op::Rotate => self.rotate(x, None, filter, fill, size),
            Op::ShearX | Op::ShearY | Op::TranslateX | Op::TranslateY => {
                if let Some(matrix) = step.matrix() {
                    self.warp(Map::Affine(matrix), filter, fill, size);
                }
            }
        }
    }

    fn warp(&mut self, map: Map, filter: Filter, fill: [u8; 3], size: [usize; 2]) {
        let (source, matrix) = source(map, filter, size);
        if source == Source::Scaled {
            self.need_notes((size[0] + size[1]) * size_of::<i32>());
        }
        let head = [packed(fill), f64::from(source as u8), f64::from(filter as u8)];
        self.put(Kind::Warp, &[&head[..], &matrix].concat());
    }

    /// The squares of a larger image that is turned and cut to this size.
    fn grid(&mut self, mask: &GridMask, grid: Grid, fill: [u8; 3], size: [usize; 2]) {
        let whole = mask.canvas(size);
        let (source, matrix) = match warp::rotation(whole, grid.angle as f64, None) {
            Rotation::Quarters(quarters) => (Source::Quarters, vec![quarters as f64]),
            Rotation::Map(map) => source(map, Filter::Nearest, whole),
        };
        let [d, bar, row, column] = numbers([grid.d, mask.bar(grid), grid.start[0], grid.start[1]]);
        let squares = f64::from(u8::from(mask.mode == Erased::Squares));
        let head = [&[d, bar, row, column, squares, packed(fill)], &numbers(whole)[..], &[f64::from(source as u8)]];
        self.put(Kind::Grid, &[head.concat(), matrix].concat());
    }

    fn blur(&mut self, kernel: &[f32], size: [usize; 2]) {
        self.put(Kind::Blur, &weights(kernel));
        self.need_notes(planes(kernel, size));
    }

    fn resize(&mut self, from: [usize; 2], to: [usize; 2], filter: Interpolation) {
        let height_first = resize::height_first(from, to);
        self.need_canvas(if height_first { [from[0], to[1]] } else { [to[0], from[1]] });
        // A window is where it begins, how long it is, and its weights.
        let lengths = [0, 1].map(|axis| resize::most_weights(from[axis], to[axis], filter) + 2);
        self.need_notes((to[0] * lengths[0] + to[1] * lengths[1]) * size_of::<i32>());
        let ([w, h], [across, down]) = (numbers(to), numbers(lengths));
        self.put(Kind::Resize, &[w, h, f64::from(filter as u8), f64::from(u8::from(height_first)), across, down]);
    }

    fn jpeg(&mut self, quality: u8, [width, height]: [usize; 2]) {
        let whole = |[x, y]: [usize; 2]| x.next_multiple_of(8) * y.next_multiple_of(8);
        self.need_notes(whole([width, height]) + 2 * whole([width.div_ceil(2), height.div_ceil(2)]));
        self.put(Kind::Jpeg, &[f64::from(quality)]);
    }

    fn mixture(&mut self, mixture: &Mixture, canvas: Canvas, size: [usize; 2]) {
        let values = size[0] * size[1] * 3;
        self.room.kept = self.room.kept.max(values * (size_of::<f32>() + 1));
        self.put(Kind::MixtureBegin, &[f64::from(mixture.own)]);
        for (weight, steps) in &mixture.chains {
            steps.iter().for_each(|step| self.step(*step, canvas, size));
            self.put(Kind::MixtureAdd, &[f64::from(*weight)]);
        }
        self.put(Kind::MixtureEnd, &[0.0]);
    }
}

/// How many weights there are, and these.
fn weights(kernel: &[f32]) -> Vec<f64> {
    [kernel.len() as f64].into_iter().chain(kernel.iter().map(|weight| f64::from(*weight))).collect()
}

/// Bytes of a kernel and three numbers for each pixel.
fn planes(kernel: &[f32], [width, height]: [usize; 2]) -> usize {
    (kernel.len().next_multiple_of(4) + 3 * width * height) * size_of::<f32>()
}

/// How `warp::transform` finds the pixels of an image of this size.
fn source(map: Map, filter: Filter, size: [usize; 2]) -> (Source, Vec<f64>) {
    match map {
        Map::Affine(m) => {
            let source = match filter {
                Filter::Nearest if m[1] == 0.0 && m[3] == 0.0 => Source::Scaled,
                Filter::Nearest if warp::fits_fixed(m, size) => Source::Fixed,
                _ => Source::Affine,
            };
            (source, m.to_vec())
        }
        Map::Perspective(m) => (Source::Perspective, m.to_vec()),
    }
}
