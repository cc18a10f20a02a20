//! Borders around images.

use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Arg, Array, Columns, Queue, View, args},
        ops::op::{Given, Gradient, Known, Op, apply1},
    },
};
use candle_core::{Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// `torch.nn.functional.pad` of images `(N, H, W, C)` with a constant: `borders` are `[[top, bottom], [left, right]]`.
pub fn pad2d(x: &Tensor, borders: [[usize; 2]; 2], value: f32) -> Result<Tensor> {
    match (x.dims(), borders) {
        (_, [[0, 0], [0, 0]]) => Ok(x.clone()),
        (&[images, h, w, c], _) if h * w * c > 0 => Ok(apply1(Pad { sizes: [images, h, w, c], borders, value }, x)?),
        (dims, _) => Err(Error::bug(format!("pad2d of {dims:?}, which are not images (N, H, W, C)"))),
    }
}

/// TensorFlow's "SAME" padding of an axis: the output is `size / stride`, rounded up; an odd pixel goes to the end.
pub fn same_padding(size: usize, kernel: usize, stride: usize) -> [usize; 2] {
    let all = ((size.div_ceil(stride).max(1) - 1) * stride + kernel).saturating_sub(size);
    [all / 2, all - all / 2]
}

struct Pad {
    /// `(N, H, W, C)` of the input.
    sizes: [usize; 4],
    borders: [[usize; 2]; 2],
    value: f32,
}

impl Pad {
    fn output_shape(&self) -> (usize, usize, usize, usize) {
        let ([images, h, w, c], [rows, columns]) = (self.sizes, self.borders);
        (images, h + rows[0] + rows[1], w + columns[0] + columns[1], c)
    }

    /// Where an input row, counted over all images, starts in the output.
    fn start(&self, row: usize) -> usize {
        let ((_, height, width, c), [_, h, _, _]) = (self.output_shape(), self.sizes);
        let y = row / h * height + self.borders[0][0] + row % h;
        (y * width + self.borders[1][0]) * c
    }

    /// What the kernels know of it: where the input lies, both sizes, and the columns.
    fn places(&self, columns: Columns) -> Vec<Arg> {
        let ((_, height, width, _), [_, h, w, _]) = (self.output_shape(), self.sizes);
        let sizes = [self.borders[0][0], self.borders[1][0], h, w, height, width].map(|size| Arg::Int(size as i32));
        [&sizes[..], args![columns.rows, columns.channels, i32::from(columns.wide)]].concat()
    }

    fn row(&self) -> usize {
        self.sizes[2] * self.sizes[3]
    }
}

impl Op<1> for Pad {
    fn name(&self) -> &'static str {
        "pad2d"
    }

    fn reads(&self) -> [bool; 1] {
        [false]
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let x = x.values;
        let shape: Shape = self.output_shape().into();
        let mut y = vec![self.value; shape.elem_count()];
        let (image, rows) = (shape.elem_count() / self.sizes[0].max(1), self.sizes[1]);
        let images = y.par_chunks_mut(image.max(1)).zip(x.par_chunks(rows * self.row()));
        images.for_each(|(y, x)| {
            for (row, x) in x.chunks_exact(self.row()).enumerate() {
                y[self.start(row)..][..self.row()].copy_from_slice(x);
            }
        });
        Ok((y, shape))
    }

    fn cpu_gradients(&self, Known { inputs: [x], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let mut dx = vec![0.0f32; x.count()];
        let rows = dx.par_chunks_mut(self.row()).enumerate();
        rows.for_each(|(row, dx)| dx.copy_from_slice(&dy.values[self.start(row)..][..self.row()]));
        Ok([Gradient::New(dx)])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        let y = queue.array(self.output_shape(), x.dtype)?;
        let columns = Columns::of(y.view(), &[Some(x)]);
        let arrays = args![x, &y, self.value];
        queue.launch("pad", x.dtype, columns.each(), &[arrays, &self.places(columns)[..]].concat())?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { inputs: [x], dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let dx = queue.like(x)?;
        let columns = Columns::of(dx.view(), &[Some(dy)]);
        let arguments = [args![dy, &dx], &self.places(columns)[..]].concat();
        queue.launch("pad_gradient", x.dtype, columns.each(), &arguments)?;
        Ok([Gradient::New(dx)])
    }
}
