//! Pools.

use super::{
    Window,
    memory::{Fresh, Slot},
    simd::vectorized,
};
use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Arg, Array, Columns, Grid, Queue, View, args},
        ops::op::{Given, Gradient, Known, Op, apply1},
    },
};
use candle_core::{DType, Result as Candle, Shape, Tensor};
use rayon::prelude::*;
use std::sync::OnceLock;

/// `torch.nn.MaxPool2d`: padding counts as minus infinity; the gradient goes to the first maximum of a window.
pub fn max_pool2d(x: &Tensor, window: Window) -> Result<Tensor> {
    let sizes = Sizes::new(x, window)?;
    if window.kernel[0] * window.kernel[1] > 256 {
        return Err(Error::bug(format!("max_pool2d remembers at most 256 places, the window is {:?}", window.kernel)));
    }
    Ok(apply1(MaxPool { sizes, winners: OnceLock::new(), winners_on_device: OnceLock::new() }, x)?)
}

/// `torch.nn.AvgPool2d` (padding counts as zeros, `count_include_pad = true`).
pub fn avg_pool2d(x: &Tensor, window: Window) -> Result<Tensor> {
    let sizes = Sizes::new(x, window)?;
    if window.dilation != [1, 1] {
        return Err(Error::bug(format!("avg_pool2d has no dilation, the window is {window:?}")));
    }
    let shares = [0, 1].map(|axis| vec![1.0 / window.kernel[axis] as f32; sizes.output[axis]]);
    Ok(apply1(AvgPool { sizes, shares, seen: false }, x)?)
}

/// `torch.nn.AvgPool2d` with `ceil_mode = true` and `count_include_pad = false`: windows may reach beyond the image, as
/// long as they start in it, and average the pixels they see. timm's downsampling in residual networks.
pub fn avg_pool2d_ceil(x: &Tensor, window: Window) -> Result<Tensor> {
    if window.dilation != [1, 1] || window.padding != [0, 0] {
        return Err(Error::bug(format!("avg_pool2d_ceil has no dilation or padding, the window is {window:?}")));
    }
    let sizes = Sizes::with(x, window, |input| {
        [0, 1].map(|axis| {
            let (input, stride) = (input[axis], window.stride[axis]);
            let last = input.saturating_sub(window.kernel[axis]).div_ceil(stride);
            if input == 0 { 0 } else { last.min((input - 1) / stride) + 1 }
        })
    })?;
    let shares = [0, 1].map(|axis| {
        let seen = |at: &usize| (0..window.kernel[axis]).filter(|&tap| sizes.source(axis, *at, tap).is_some()).count();
        (0..sizes.output[axis]).map(|at| 1.0 / seen(&at) as f32).collect()
    });
    Ok(apply1(AvgPool { sizes, shares, seen: true }, x)?)
}

/// The mean over height and width: `(N, H, W, C)` to `(N, C)`.
pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    let (_, h, w, _) = x.dims4()?;
    match h * w {
        0 => Err(Error::bug(format!("global_avg_pool of an empty image {:?}", x.dims()))),
        _ => Ok(apply1(GlobalAvgPool, x)?),
    }
}

/// Input and output of a pool, sizes checked.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    input: [usize; 2],
    output: [usize; 2],
    channels: usize,
    window: Window,
}

impl Sizes {
    fn new(x: &Tensor, window: Window) -> Result<Self> {
        Self::with(x, window, |input| window.output(input))
    }

    /// With another rule for the output's `[height, width]`.
    fn with(x: &Tensor, window: Window, output: impl Fn([usize; 2]) -> [usize; 2]) -> Result<Self> {
        let (batch, h, w, channels) = x.dims4()?;
        let zero = [window.kernel, window.stride, window.dilation].concat().contains(&0);
        // As torch: every window then holds at least one pixel.
        let padded = (0..2).any(|axis| window.padding[axis] * 2 > window.kernel[axis]);
        let output = if zero { [0, 0] } else { output([h, w]) };
        match zero || padded || output.contains(&0) || channels == 0 {
            true => Err(Error::bug(format!("a pool of {:?} with {window:?} has no output", x.dims()))),
            false => Ok(Self { batch, input: [h, w], output, channels, window }),
        }
    }

    fn output_shape(&self) -> Shape {
        (self.batch, self.output[0], self.output[1], self.channels).into()
    }

    /// What the kernels know of a pool: the columns they walk and the sizes.
    fn arguments(&self, columns: Columns) -> Vec<Arg> {
        self.window.arguments(columns, self.input, self.output)
    }

    fn output_row(&self) -> usize {
        self.output[1] * self.channels
    }

    fn input_row(&self) -> usize {
        self.input[1] * self.channels
    }

    /// Where tap `tap` of output `at` lies along an axis, where it lies inside.
    #[inline(always)]
    fn source(&self, axis: usize, at: usize, tap: usize) -> Option<usize> {
        let place = at * self.window.stride[axis] + tap * self.window.dilation[axis];
        place.checked_sub(self.window.padding[axis]).filter(|&place| place < self.input[axis])
    }

    /// Which output sees input `at` through tap `tap` along an axis.
    #[inline(always)]
    fn sink(&self, axis: usize, at: usize, tap: usize) -> Option<usize> {
        let place = (at + self.window.padding[axis]).checked_sub(tap * self.window.dilation[axis])?;
        let stride = self.window.stride[axis];
        (place.is_multiple_of(stride) && place / stride < self.output[axis]).then_some(place / stride)
    }
}

struct MaxPool {
    sizes: Sizes,
    /// The tap that won, for each output element.
    winners: OnceLock<Vec<u8>>,
    /// The same where a GPU found them.
    winners_on_device: OnceLock<Array>,
}

impl Op<1> for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool2d"
    }

    fn reads(&self) -> [bool; 1] {
        [false]
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let x = x.values;
        let s = &self.sizes;
        let shape = s.output_shape();
        let (mut y, mut winners) = (Fresh::new(shape.elem_count()), Fresh::new(shape.elem_count()));
        let rows = y.slots().par_chunks_mut(s.output_row()).zip(winners.slots().par_chunks_mut(s.output_row()));
        rows.enumerate().for_each(|(row, (y, winners))| max_row(s, row, x, y, winners));
        // SAFETY: the rows cover both, and every window holds a pixel, whose visit writes all channels.
        let (y, winners) = unsafe { (y.done(), winners.done()) };
        let _ = self.winners.set(winners);
        Ok((y, shape))
    }

    fn cpu_gradients(&self, Known { inputs: [x], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let Some(winners) = self.winners.get() else { candle_core::bail!("max_pool2d went backward before forward") };
        let s = &self.sizes;
        let mut dx = Fresh::new(x.count());
        let rows = dx.slots().par_chunks_mut(s.input_row()).enumerate();
        rows.for_each(|(row, dx)| max_backward_row(s, row, dy.values, winners, dx));
        // SAFETY: the rows cover all of `dx`, and each is cleared first.
        Ok([Gradient::New(unsafe { dx.done() })])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        let y = queue.array(self.sizes.output_shape(), x.dtype)?;
        let winners = queue.array(self.sizes.output_shape(), DType::U8)?;
        let columns = Columns::of(y.view(), &[Some(x), Some(winners.view())]);
        let arguments = [args![x, &y, &winners], &self.sizes.arguments(columns)[..]].concat();
        queue.launch("max_pool", x.dtype, columns.each(), &arguments)?;
        let _ = self.winners_on_device.set(winners);
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { inputs: [x], dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let Some(winners) = self.winners_on_device.get() else {
            candle_core::bail!("max_pool2d went backward before forward")
        };
        let dx = queue.like(x)?;
        let columns = Columns::of(dx.view(), &[Some(dy), Some(winners.view())]);
        let arguments = [args![dy, winners, &dx], &self.sizes.arguments(columns)[..]].concat();
        queue.launch("max_pool_gradient", x.dtype, columns.each(), &arguments)?;
        Ok([Gradient::New(dx)])
    }
}

vectorized! {
    /// Output row `row` of all images' rows.
    fn max_row(s: &Sizes, row: usize, x: &[f32], y: &mut [Slot], winners: &mut [Slot<u8>]) {
        let (image, row) = (row / s.output[0], row % s.output[0]);
        let pixels = y.chunks_exact_mut(s.channels).zip(winners.chunks_exact_mut(s.channels));
        for (column, (y, winners)) in pixels.enumerate() {
            let mut first = true;
            for a in 0..s.window.kernel[0] {
                let Some(iy) = s.source(0, row, a) else { continue };
                for b in 0..s.window.kernel[1] {
                    let Some(ix) = s.source(1, column, b) else { continue };
                    let x = &x[((image * s.input[0] + iy) * s.input[1] + ix) * s.channels..][..s.channels];
                    let tap = (a * s.window.kernel[1] + b) as u8;
                    match first {
                        true => start(x, tap, y, winners),
                        // SAFETY: the first tap wrote both.
                        false => unsafe { challenge(x, tap, y, winners) },
                    }
                    first = false;
                }
            }
        }
    }

    /// Input row `row` of all images' rows.
    fn max_backward_row(s: &Sizes, row: usize, dy: &[f32], winners: &[u8], dx: &mut [Slot]) {
        let (image, row) = (row / s.input[0], row % s.input[0]);
        for (column, dx) in dx.chunks_exact_mut(s.channels).enumerate() {
            let dx = cleared(dx);
            for a in 0..s.window.kernel[0] {
                let Some(oy) = s.sink(0, row, a) else { continue };
                for b in 0..s.window.kernel[1] {
                    let Some(ox) = s.sink(1, column, b) else { continue };
                    let at = ((image * s.output[0] + oy) * s.output[1] + ox) * s.channels;
                    let tap = (a * s.window.kernel[1] + b) as u8;
                    for ((dx, &dy), &winner) in dx.iter_mut().zip(&dy[at..at + s.channels]).zip(&winners[at..at + s.channels]) {
                        *dx += if winner == tap { dy } else { 0.0 };
                    }
                }
            }
        }
    }

    /// Output row `row` of all images' rows.
    fn avg_row(s: &Sizes, row: usize, x: &[f32], y: &mut [Slot], shares: &[Vec<f32>; 2]) {
        let (image, row) = (row / s.output[0], row % s.output[0]);
        for (column, y) in y.chunks_exact_mut(s.channels).enumerate() {
            let y = cleared(y);
            let share = shares[0][row] * shares[1][column];
            for a in 0..s.window.kernel[0] {
                let Some(iy) = s.source(0, row, a) else { continue };
                for b in 0..s.window.kernel[1] {
                    let Some(ix) = s.source(1, column, b) else { continue };
                    let x = &x[((image * s.input[0] + iy) * s.input[1] + ix) * s.channels..][..s.channels];
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y = x.mul_add(share, *y));
                }
            }
        }
    }

    /// Input row `row` of all images' rows.
    fn avg_backward_row(s: &Sizes, row: usize, dy: &[f32], dx: &mut [Slot], shares: &[Vec<f32>; 2]) {
        let (image, row) = (row / s.input[0], row % s.input[0]);
        for (column, dx) in dx.chunks_exact_mut(s.channels).enumerate() {
            let dx = cleared(dx);
            for a in 0..s.window.kernel[0] {
                let Some(oy) = s.sink(0, row, a) else { continue };
                for b in 0..s.window.kernel[1] {
                    let Some(ox) = s.sink(1, column, b) else { continue };
                    let dy = &dy[((image * s.output[0] + oy) * s.output[1] + ox) * s.channels..][..s.channels];
                    let share = shares[0][oy] * shares[1][ox];
                    dx.iter_mut().zip(dy).for_each(|(dx, &dy)| *dx = dy.mul_add(share, *dx));
                }
            }
        }
    }

    fn add_rows(sums: &mut [f32], x: &[f32]) {
        for x in x.chunks_exact(sums.len()) {
            sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
        }
    }

    fn spread(dx: &mut [Slot], dy: &[f32], share: f32) {
        for dx in dx.chunks_exact_mut(dy.len()) {
            for (dx, &dy) in dx.iter_mut().zip(dy) {
                dx.write(dy * share);
            }
        }
    }
}

#[inline(always)]
fn start(x: &[f32], tap: u8, best: &mut [Slot], winners: &mut [Slot<u8>]) {
    for ((&x, best), winner) in x.iter().zip(best).zip(winners) {
        best.write(x);
        winner.write(tap);
    }
}

/// NaN beats everything, as in torch.
///
/// # Safety
/// `best` and `winners` have been written.
#[inline(always)]
unsafe fn challenge(x: &[f32], tap: u8, best: &mut [Slot], winners: &mut [Slot<u8>]) {
    for ((&x, best), winner) in x.iter().zip(best).zip(winners) {
        // SAFETY: the caller's promise.
        let (old, holder) = unsafe { (best.assume_init(), winner.assume_init()) };
        let wins = x > old || x.is_nan();
        best.write(if wins { x } else { old });
        winner.write(if wins { tap } else { holder });
    }
}

/// The slots as zeros.
#[inline(always)]
fn cleared(slots: &mut [Slot]) -> &mut [f32] {
    for slot in slots.iter_mut() {
        slot.write(0.0);
    }
    // SAFETY: all have been written; a slot has the layout of its value.
    unsafe { &mut *(slots as *mut [Slot] as *mut [f32]) }
}

struct AvgPool {
    sizes: Sizes,
    /// Along each axis, the weight of a pixel in each output's mean.
    shares: [Vec<f32>; 2],
    /// Whether a mean is over the pixels that a window sees rather than over all its places.
    seen: bool,
}

impl Op<1> for AvgPool {
    fn name(&self) -> &'static str {
        "avg-pool2d"
    }

    fn reads(&self) -> [bool; 1] {
        [false]
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let x = x.values;
        let (s, shares) = (&self.sizes, &self.shares);
        let shape = s.output_shape();
        let mut y = Fresh::new(shape.elem_count());
        y.slots().par_chunks_mut(s.output_row()).enumerate().for_each(|(row, y)| avg_row(s, row, x, y, shares));
        // SAFETY: the rows cover all of `y`.
        Ok((unsafe { y.done() }, shape))
    }

    fn cpu_gradients(&self, Known { inputs: [x], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let (s, shares) = (&self.sizes, &self.shares);
        let mut dx = Fresh::new(x.count());
        let rows = dx.slots().par_chunks_mut(s.input_row()).enumerate();
        rows.for_each(|(row, dx)| avg_backward_row(s, row, dy.values, dx, shares));
        // SAFETY: the rows cover all of `dx`.
        Ok([Gradient::New(unsafe { dx.done() })])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        let y = queue.array(self.sizes.output_shape(), x.dtype)?;
        let columns = Columns::of(y.view(), &[Some(x)]);
        let arguments = [args![x, &y, i32::from(self.seen)], &self.sizes.arguments(columns)[..]].concat();
        queue.launch("avg_pool", x.dtype, columns.each(), &arguments)?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { inputs: [x], dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let dx = queue.like(x)?;
        let columns = Columns::of(dx.view(), &[Some(dy)]);
        let arguments = [args![dy, &dx, i32::from(self.seen)], &self.sizes.arguments(columns)[..]].concat();
        queue.launch("avg_pool_gradient", x.dtype, columns.each(), &arguments)?;
        Ok([Gradient::New(dx)])
    }
}

struct GlobalAvgPool;

impl Op<1> for GlobalAvgPool {
    fn name(&self) -> &'static str {
        "global-avg-pool"
    }

    fn reads(&self) -> [bool; 1] {
        [false]
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        image_means(x.values, x.shape)
    }

    fn cpu_gradients(&self, Known { inputs: [x], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let (_, h, w, c) = x.shape.dims4()?;
        let mut dx = Fresh::new(x.count());
        let images = dx.slots().par_chunks_mut((h * w * c).max(1)).zip(dy.values.par_chunks(c.max(1)));
        images.for_each(|(dx, dy)| spread(dx, dy, 1.0 / (h * w) as f32));
        // SAFETY: the images cover all of `dx`.
        Ok([Gradient::New(unsafe { dx.done() })])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        image_means_on_device(queue, x)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { inputs: [x], dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let (images, h, w, c) = x.shape.dims4()?;
        let dx = queue.like(x)?;
        let columns = Columns::of(dx.view(), &[Some(dy)]).with_rows(h * w);
        let arguments = args![dy, &dx, images, h * w, c, i32::from(columns.wide)];
        queue.launch("image_means_gradient", x.dtype, columns.each_of(images), arguments)?;
        Ok([Gradient::New(dx)])
    }
}

/// [`image_means`] on a GPU.
pub fn image_means_on_device(queue: &Queue, x: View) -> Candle<Array> {
    let (images, h, w, c) = x.shape.dims4()?;
    let columns = Columns::of(x, &[]).with_rows(h * w);
    let chunks = columns.chunks_of(images);
    let partial = queue.array((images, chunks, c), DType::F32)?;
    let means = queue.array((images, c), x.dtype)?;
    let arguments = args![x, &partial, &means, images, h * w, c, i32::from(columns.wide)];
    queue.launch("image_means", x.dtype, columns.sums_of(images), arguments)?;
    if chunks > 1 {
        let arguments = args![&partial, &means, images, chunks, h * w, c];
        queue.launch("image_means_final", x.dtype, Grid::over(images * c), arguments)?;
    }
    Ok(means)
}

/// The mean of each image's pixels: `(N, H, W, C)` to `(N, C)`.
pub fn image_means(x: &[f32], shape: &Shape) -> Candle<(Vec<f32>, Shape)> {
    let (n, h, w, c) = shape.dims4()?;
    let mut means = vec![0.0f32; n * c];
    let images = means.par_chunks_mut(c.max(1)).zip(x.par_chunks((h * w * c).max(1)));
    images.for_each(|(mean, image)| mean_of_rows(mean, image));
    Ok((means, (n, c).into()))
}

fn mean_of_rows(mean: &mut [f32], x: &[f32]) {
    /// Sums of up to this many rows stay in f32.
    const ROWS: usize = 64;
    let c = mean.len();
    let mut totals = vec![0.0f64; c];
    for block in x.chunks(ROWS * c) {
        mean.fill(0.0);
        add_rows(mean, block);
        totals.iter_mut().zip(&*mean).for_each(|(total, &sum)| *total += f64::from(sum));
    }
    let rows = (x.len() / c) as f64;
    mean.iter_mut().zip(totals).for_each(|(mean, total)| *mean = (total / rows) as f32);
}
