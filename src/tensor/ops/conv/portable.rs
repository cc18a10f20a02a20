//! Convolution as a matrix product: every geometry, any processor. The reference of the fast paths and the fallback
//! where they do not reach.
//!
//! One image at a time becomes the matrix of what the kernel sees, "im2col" (Chellapilla et al. 2006): a row for each
//! output pixel, a column for each (kernel row, kernel column, channel of the group).

use super::geometry::Geometry;
use crate::tensor::ops::matrix::{Matrix, MatrixMut, product};
use rayon::prelude::*;
use std::ops::Range;

/// `(N, H, W, in)` and `(out, in / groups, kh, kw)` to `(N, H', W', out)`.
pub fn forward(g: &Geometry, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let packed = pack(g, weight);
    let mut y = vec![0.0; g.batch * g.output_pixels() * g.outputs];
    each_image(g, &mut y, g.output_pixels() * g.outputs, |image, y| {
        let x = &x[image * g.input_image()..][..g.input_image()];
        let mut columns = vec![0.0; g.output_pixels() * g.taps() * g.group_inputs()];
        for group in 0..g.groups {
            gather(g, x, group, 0..g.taps(), &mut columns);
            let weight = packed_group(g, &packed, group);
            let y =
                MatrixMut::rows(&mut y[group * g.group_outputs()..], g.output_pixels(), g.group_outputs(), g.outputs);
            product(y, &Matrix::packed(&columns, g.output_pixels()), &weight, false);
        }
    });
    y
}

/// Of the output's gradient, the input's: every column's gradient added where the column came from.
pub fn input_gradient(g: &Geometry, dy: &[f32], weight: &[f32]) -> Vec<f32> {
    let packed = pack(g, weight);
    let mut dx = vec![0.0; g.batch * g.input_image()];
    each_image(g, &mut dx, g.input_image(), |image, dx| {
        let dy = &dy[image * g.output_pixels() * g.outputs..];
        let width = g.taps() * g.group_inputs();
        let mut columns = vec![0.0; g.output_pixels() * width];
        for group in 0..g.groups {
            let dy = Matrix::rows(&dy[group * g.group_outputs()..], g.output_pixels(), g.group_outputs(), g.outputs);
            let columns_mut = MatrixMut::rows(&mut columns, g.output_pixels(), width, width);
            product(columns_mut, &dy, &packed_group(g, &packed, group).transposed(), false);
            scatter(g, &columns, group, dx);
        }
    });
    dx
}

/// Of the input and the output's gradient, the weight's. One task owns one tap of one group and adds image after image,
/// so the sum does not depend on the threads.
pub fn weight_gradient(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let tile = g.group_inputs() * g.group_outputs();
    let mut packed = vec![0.0; g.groups * g.taps() * tile];
    packed.par_chunks_mut(tile.max(1)).enumerate().for_each(|(task, dw)| {
        let (group, tap) = (task / g.taps(), task % g.taps());
        let mut columns = vec![0.0; g.output_pixels() * g.group_inputs()];
        for image in 0..g.batch {
            gather(g, &x[image * g.input_image()..][..g.input_image()], group, tap..tap + 1, &mut columns);
            let dy = &dy[image * g.output_pixels() * g.outputs + group * g.group_outputs()..];
            let dy = Matrix::rows(dy, g.output_pixels(), g.group_outputs(), g.outputs);
            let dw = MatrixMut::rows(dw, g.group_inputs(), g.group_outputs(), g.group_outputs());
            product(dw, &Matrix::packed(&columns, g.output_pixels()).transposed(), &dy, true);
        }
    });
    unpack(g, &packed)
}

/// Runs `work` on each image's part of `out`.
fn each_image(g: &Geometry, out: &mut [f32], size: usize, work: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if g.batch * size > 0 {
        out.par_chunks_mut(size).enumerate().for_each(|(image, out)| work(image, out));
    }
}

/// The weight as `[group][tap][input][output]`: what a column is multiplied with.
fn pack(g: &Geometry, weight: &[f32]) -> Vec<f32> {
    let mut packed = vec![0.0; weight.len()];
    places(g).zip(weight).for_each(|(at, value)| packed[at] = *value);
    packed
}

fn unpack(g: &Geometry, packed: &[f32]) -> Vec<f32> {
    places(g).map(|at| packed[at]).collect()
}

/// Where each element of the `(out, in / groups, kh, kw)` weight lies in the packed one.
fn places(g: &Geometry) -> impl Iterator<Item = usize> + use<> {
    let (taps, inputs, outputs) = (g.taps(), g.group_inputs(), g.group_outputs());
    (0..g.outputs).flat_map(move |output| {
        let (group, output) = (output / outputs, output % outputs);
        (0..inputs * taps).map(move |at| {
            let (input, tap) = (at / taps, at % taps);
            ((group * taps + tap) * inputs + input) * outputs + output
        })
    })
}

fn packed_group<'a>(g: &Geometry, packed: &'a [f32], group: usize) -> Matrix<'a> {
    let rows = g.taps() * g.group_inputs();
    Matrix::packed(&packed[group * rows * g.group_outputs()..][..rows * g.group_outputs()], rows)
}

/// Fills `columns`, `[output pixel][tap][channel of the group]`, zeros where the kernel sees padding.
fn gather(g: &Geometry, x: &[f32], group: usize, taps: Range<usize>, columns: &mut [f32]) {
    let mut columns = columns.chunks_exact_mut(g.group_inputs());
    each_place(g, group, taps, |place| {
        if let Some(column) = columns.next() {
            match place {
                Some(at) => column.copy_from_slice(&x[at..at + column.len()]),
                None => column.fill(0.0),
            }
        }
    });
}

/// The adjoint of [`gather`] with all taps: adds `columns` onto `dx`.
fn scatter(g: &Geometry, columns: &[f32], group: usize, dx: &mut [f32]) {
    let mut columns = columns.chunks_exact(g.group_inputs());
    each_place(g, group, 0..g.taps(), |place| {
        if let (Some(column), Some(at)) = (columns.next(), place) {
            dx[at..].iter_mut().zip(column).for_each(|(dx, column)| *dx += column);
        }
    });
}

/// Where in an input image the group's channels lie under each tap at each output pixel; `None` in the padding.
fn each_place(g: &Geometry, group: usize, taps: Range<usize>, mut visit: impl FnMut(Option<usize>)) {
    for pixel in 0..g.output_pixels() {
        for tap in taps.clone() {
            let row = g.source(0, pixel / g.output[1], tap / g.window.kernel[1]);
            let column = g.source(1, pixel % g.output[1], tap % g.window.kernel[1]);
            visit(
                row.zip(column).map(|(row, column)| (row * g.input[1] + column) * g.inputs + group * g.group_inputs()),
            );
        }
    }
}
