//! The weight's gradient, `dw[tap][input][output] = sum over pixels of x[pixel + tap][input] * dy[pixel][output]`, as outer
//! products summed in registers.
//!
//! One task owns some elements of the result and adds image block after image block, whose size does not depend on the
//! threads: neither do the bits.

use super::{
    axis::Axis,
    geometry::Geometry,
    kernel::{Outer, Registers, outer},
    panel::Panels,
    pass::Shared,
    transpose::{Lanes, NONE, unpack},
};
use pulp::Arch;
use rayon::prelude::*;
use std::{borrow::Cow, ops::Range};

/// Of `x (N, H, W, in)` and `dy (N, H', W', out)`, the gradient `(out, in / groups, kh, kw)`.
pub fn weight_gradient(arch: Arch, g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    assert_eq!((x.len(), dy.len()), (g.batch * g.input_image(), g.batch * g.output_pixels() * g.outputs));
    let mut dw = vec![0.0; g.outputs * g.group_inputs() * g.taps()];
    Work::new(arch, g, x, dy).run(&Shared::new(&mut dw));
    dw
}

/// The pixels that one kernel position, or one row of them, sees.
struct Unit {
    /// Of the first image of a block: where its floats begin in `x`, and the output pixel.
    pixels: Vec<(u32, u32)>,
}

struct Work<'a> {
    arch: Arch,
    registers: Registers,
    g: Geometry,
    x: Cow<'a, [f32]>,
    /// Floats of an image of `x`.
    image: usize,
    dy: &'a [f32],
    panels: Panels,
    /// Kernel columns in a unit: all of them where channels are few, so that a unit still fills the registers.
    together: usize,
    units: Vec<Unit>,
    /// Images in a block.
    block: usize,
}

/// Pixels in a block: enough to pay for adding its sums to those of the blocks before, few enough for the cache.
const PIXELS: usize = 1024;

/// With fewer channels than this, a row of kernel positions is read as one.
const FEW: usize = 8;

impl<'a> Work<'a> {
    fn new(arch: Arch, g: &Geometry, x: &'a [f32], dy: &'a [f32]) -> Self {
        let registers = Registers::of(arch);
        let mut g = *g;
        if g.is_pointwise() {
            // Every pixel stands alone: rows of an image are as good as images.
            (g.batch, g.input[0], g.output[0]) = (g.batch * g.input[0], 1, 1);
        }
        let row = g.groups == 1 && g.inputs < FEW && g.window.kernel[1] > 1 && g.window.dilation[1] == 1;
        let (x, image, together) = match row {
            true => (padded(&g, x).into(), g.input[0] * padded_row(&g), g.window.kernel[1]),
            false => (x.into(), g.input_image(), 1),
        };
        // Places in a block fit u32.
        let block = PIXELS.div_ceil(g.output_pixels()).min(g.batch).min((1 << 31) / image).max(1);
        let panels = Panels::new(g.group_outputs(), registers);
        let mut work = Self { arch, registers, g, x, image, dy, panels, together, units: Vec::new(), block };
        work.units = work.units();
        work
    }

    fn units(&self) -> Vec<Unit> {
        let (rows, columns) = (Axis::forward(&self.g, 0), Axis::forward(&self.g, 1));
        let (row, pixel) = (self.image / self.g.input[0], self.g.inputs);
        let unit = |y: usize, x: Option<usize>| {
            let (shift, reached) = match x {
                Some(x) => (columns.taps[x].shift, columns.reached(&columns.taps[x])),
                None => (0, 0..columns.count),
            };
            let source = |oy: usize, ox: usize| {
                let iy = (oy * rows.step) as isize + rows.taps[y].shift;
                let ix = (ox * columns.step) as isize + shift;
                iy as usize * row + ix as usize * pixel
            };
            let mut pixels = Vec::new();
            for image in 0..self.block {
                for oy in rows.reached(&rows.taps[y]) {
                    for ox in reached.clone() {
                        let at = image * self.image + source(oy, ox);
                        pixels.push((at as u32, (image * self.g.output_pixels() + oy * columns.count + ox) as u32));
                    }
                }
            }
            Unit { pixels }
        };
        let starts = |y: usize| -> Vec<Unit> {
            match self.together {
                1 => (0..columns.taps.len()).map(|x| unit(y, Some(x))).collect(),
                _ => vec![unit(y, None)],
            }
        };
        (0..rows.taps.len()).flat_map(starts).collect()
    }

    /// Floats of `x` under one unit at one pixel.
    fn depth(&self) -> usize {
        self.together * self.g.group_inputs()
    }

    fn run(&self, dw: &Shared) {
        let tasks = self.g.groups * self.panels.count();
        let parts = self.depth().div_ceil(self.registers.rows(2));
        let splits = rayon::current_num_threads().div_ceil(tasks).min(parts);
        (0..tasks * splits).into_par_iter().for_each(|task| {
            let (task, split) = (task / splits, task % splits);
            let blocks = split * parts / splits..(split + 1) * parts / splits;
            let depth = self.depth();
            let rows = blocks.start * depth / parts..blocks.end * depth / parts;
            self.task(task / self.panels.count(), task % self.panels.count(), rows, blocks.len(), dw);
        });
    }

    /// The gradient of a panel of outputs against the `rows` of each unit, taken in `parts`.
    fn task(&self, group: usize, panel: usize, rows: Range<usize>, parts: usize, dw: &Shared) {
        let width = self.panels.width(panel);
        let mut sums = vec![0.0; self.units.len() * rows.len() * width];
        let mut dy = vec![0.0; self.block * self.g.output_pixels() * width];
        for first in (0..self.g.batch).step_by(self.block) {
            let images = first..(first + self.block).min(self.g.batch);
            self.pack(group, panel, images.clone(), &mut dy);
            for part in 0..parts {
                let part = part * rows.len() / parts..(part + 1) * rows.len() / parts;
                for (unit, sums) in self.units.iter().zip(sums.chunks_exact_mut(rows.len() * width)) {
                    let skip = group * self.g.group_inputs() + rows.start + part.start;
                    let sums = &mut sums[part.start * width..part.end * width];
                    self.sum(unit, images.clone(), skip, &dy, self.panels.vectors(panel), sums);
                }
            }
        }
        self.finish(group, panel, rows, &sums, dw);
    }

    /// The panel's channels of some images side by side, zeros behind the last channel.
    fn pack(&self, group: usize, panel: usize, images: Range<usize>, packed: &mut [f32]) {
        let channels = self.panels.channels(panel);
        let start = group * self.g.group_outputs() + channels.start;
        let pixels = images.start * self.g.output_pixels()..images.end * self.g.output_pixels();
        let dy = self.dy[pixels.start * self.g.outputs..pixels.end * self.g.outputs].chunks_exact(self.g.outputs);
        for (dy, packed) in dy.zip(packed.chunks_exact_mut(self.panels.width(panel))) {
            packed[..channels.len()].copy_from_slice(&dy[start..start + channels.len()]);
        }
    }

    /// Adds some images' outer products to `sums`, `[row][lane]`; `skip` floats lie before the first row at each pixel.
    fn sum(&self, unit: &Unit, images: Range<usize>, skip: usize, dy: &[f32], vectors: usize, sums: &mut [f32]) {
        let width = vectors * self.registers.lanes;
        let pixels = &unit.pixels[..unit.pixels.len() / self.block * images.len()];
        let x = &self.x[images.start * self.image..images.end * self.image];
        let rows = sums.len() / width;
        // Pixels ascend in both, so the last one reaches furthest.
        if let Some(&(source, pixel)) = pixels.last() {
            assert!(skip + source as usize + rows <= x.len() && (pixel as usize + 1) * width <= dy.len());
        }
        let x = x.as_ptr().wrapping_add(skip);
        let product = Outer { x, dy: dy.as_ptr(), pixels, sums: sums.as_mut_ptr() };
        // SAFETY: the last pixel, and so every one, was checked against `x` and `dy`; `sums` holds `rows` of `width`.
        unsafe { outer(self.arch, rows, vectors, product) }
    }

    /// Writes the sums where torch keeps them. The outputs' rows are far apart, so a few inputs at a time go to all of
    /// them while their sums are in the cache.
    fn finish(&self, group: usize, panel: usize, rows: Range<usize>, sums: &[f32], dw: &Shared) {
        const BLOCK: usize = 16;
        let (inputs, taps, width) = (self.g.group_inputs(), self.g.taps(), self.panels.width(panel));
        let (channels, depth) = (self.panels.channels(panel), rows.len());
        let lanes = Lanes { count: channels.len(), stride: inputs * taps };
        let first = (group * self.g.group_outputs() + channels.start) * lanes.stride;
        // With whole rows of kernel positions in a unit, a row of sums is (position, input), and all of them are few.
        let block = if self.together == 1 { BLOCK } else { inputs };
        let mut places = Vec::new();
        for start in (0..inputs).step_by(block) {
            places.clear();
            for input in start..(start + block).min(inputs) {
                places.extend((0..taps).map(|tap| {
                    let (unit, row) = (tap / self.together, tap % self.together * inputs + input);
                    if rows.contains(&row) { unit * depth + row - rows.start } else { NONE }
                }));
            }
            let start = first + start * taps;
            unpack(sums, width, lanes, &places, |at, values| {
                let to = dw.at(start + at, values.len());
                // SAFETY: `at` gave the address of as many floats of the result. They are this task's alone, because
                // tasks differ in output or in rows.
                unsafe { to.copy_from_nonoverlapping(values.as_ptr(), values.len()) }
            });
        }
    }
}

/// Floats of a row of [`padded`].
fn padded_row(g: &Geometry) -> usize {
    (g.input[1] + 2 * g.window.padding[1]) * g.inputs
}

/// `x` with its columns' padding.
fn padded(g: &Geometry, x: &[f32]) -> Vec<f32> {
    let (row, start) = (g.input[1] * g.inputs, g.window.padding[1] * g.inputs);
    let mut padded = vec![0.0; g.batch * g.input[0] * padded_row(g)];
    for (to, from) in padded.chunks_exact_mut(padded_row(g)).zip(x.chunks_exact(row)) {
        to[start..start + row].copy_from_slice(from);
    }
    padded
}
