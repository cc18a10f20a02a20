//! Making images larger.

use super::{
    memory::{Fresh, Slot},
    simd::vectorized,
};
use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Array, Columns, Queue, View, args},
        ops::op::{Given, Gradient, Known, Op, apply1},
    },
};
use candle_core::{Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// Every pixel twice in both directions: `torch.nn.functional.interpolate(scale_factor=2, mode="nearest")`,
/// `(N, H, W, C)` to `(N, 2 H, 2 W, C)`.
pub fn upsample_nearest2x(x: &Tensor) -> Result<Tensor> {
    x.dims4().map_err(|_| Error::bug(format!("upsample_nearest2x of {:?}, not (N, H, W, C)", x.dims())))?;
    Ok(apply1(UpsampleNearest2x, x)?)
}

struct UpsampleNearest2x;

impl Op<1> for UpsampleNearest2x {
    fn name(&self) -> &'static str {
        "upsample-nearest2x"
    }

    fn reads(&self) -> [bool; 1] {
        [false]
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let (n, h, w, c) = x.shape.dims4()?;
        let x = x.values;
        let mut y = Fresh::new(4 * x.len());
        let rows = y.slots().par_chunks_mut((4 * w * c).max(1)).zip(x.par_chunks((w * c).max(1)));
        rows.for_each(|(y, x)| spread_row(y, x, c));
        // SAFETY: the rows cover all of `y`: two output rows for each row of `x`.
        Ok((unsafe { y.done() }, (n, 2 * h, 2 * w, c).into()))
    }

    fn cpu_gradients(&self, Known { inputs: [x], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let (_, _, w, c) = x.shape.dims4()?;
        let mut dx = Fresh::new(x.count());
        let rows = dx.slots().par_chunks_mut((w * c).max(1)).zip(dy.values.par_chunks((4 * w * c).max(1)));
        rows.for_each(|(dx, dy)| gather_row(dx, dy, c));
        // SAFETY: the rows cover all of `dx`.
        Ok([Gradient::New(unsafe { dx.done() })])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        let (n, h, w, c) = x.shape.dims4()?;
        let y = queue.array((n, 2 * h, 2 * w, c), x.dtype)?;
        let columns = Columns::of(y.view(), &[Some(x)]);
        let arguments = args![x, &y, h as i32, w as i32, columns.rows, c, i32::from(columns.wide)];
        queue.launch("upsample", x.dtype, columns.each(), arguments)?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { inputs: [x], dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let (_, h, w, c) = x.shape.dims4()?;
        let dx = queue.like(x)?;
        let columns = Columns::of(dx.view(), &[Some(dy)]);
        let arguments = args![dy, &dx, h as i32, w as i32, columns.rows, c, i32::from(columns.wide)];
        queue.launch("upsample_gradient", x.dtype, columns.each(), arguments)?;
        Ok([Gradient::New(dx)])
    }
}

vectorized! {
    /// One row of pixels into the two rows it becomes.
    fn spread_row(y: &mut [Slot], x: &[f32], channels: usize) {
        for y in y.chunks_exact_mut(2 * x.len()) {
            for (y, x) in y.chunks_exact_mut(2 * channels).zip(x.chunks_exact(channels)) {
                for y in y.chunks_exact_mut(channels) {
                    for (y, &x) in y.iter_mut().zip(x) {
                        y.write(x);
                    }
                }
            }
        }
    }

    /// The sums of each pixel's four gradients.
    fn gather_row(dx: &mut [Slot], dy: &[f32], channels: usize) {
        let (upper, lower) = dy.split_at(dy.len() / 2);
        let pairs = upper.chunks_exact(2 * channels).zip(lower.chunks_exact(2 * channels));
        for (dx, (upper, lower)) in dx.chunks_exact_mut(channels).zip(pairs) {
            for (c, dx) in dx.iter_mut().enumerate() {
                dx.write((upper[c] + upper[channels + c]) + (lower[c] + lower[channels + c]));
            }
        }
    }
}
