//! Batch normalization with a residual and an activation behind it; group normalization on the same rows.

mod group;

pub use group::group_norm;

use super::{
    Activation,
    function::{Function, with_function},
    lanes::Lanes,
    memory::{Fresh, Slot, Values},
    simd::vectorized,
};
use crate::error::{Error, Result};
use crate::tensor::ops::op::{Given, Op, apply2, apply3};
use candle_core::{Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// Training: `act(weight * (x - mean) / sqrt(var + eps) + bias + residual)` with the batch's own statistics over all but
/// the last axis. Returns the output, the batch's mean and its unbiased variance (both `(C)`, off the tape).
pub fn batch_norm_train(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    residual: Option<&Tensor>,
    activation: Activation,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let channels = check(x, &[weight, bias], residual)?;
    let rows = x.elem_count() / channels;
    if rows < 2 {
        return Err(Error::user(format!(
            "batch normalization in training needs more than one value a channel, got {:?}: use a larger batch or image",
            x.dims()
        )));
    }
    let x = x.contiguous()?;
    let moments = Moments::of(&Values::of(&x)?, channels);
    let device = x.device();
    let mean = Tensor::from_iter(moments.mean.iter().map(|&mean| mean as f32), device)?;
    let unbiased = rows as f64 / (rows - 1) as f64;
    let var = Tensor::from_iter(moments.var.iter().map(|&var| (var * unbiased) as f32), device)?;
    let op = Normalize { moments, activation, eps };
    Ok((op.apply(&x, weight, bias, residual)?, mean, var))
}

/// Evaluation: the same with given `(mean, var)`. No gradient flows through it.
pub fn batch_norm_eval(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    statistics: (&Tensor, &Tensor),
    residual: Option<&Tensor>,
    activation: Activation,
    eps: f64,
) -> Result<Tensor> {
    check(x, &[weight, bias, statistics.0, statistics.1], residual)?;
    let [mean, var] = [statistics.0, statistics.1]
        .map(|tensor| -> Candle<Vec<f64>> { Ok(Values::of(tensor)?.iter().map(|&value| f64::from(value)).collect()) });
    let op = Normalize { moments: Moments { mean: mean?, var: var? }, activation, eps };
    let (x, residual) = (x.detach(), residual.map(Tensor::detach));
    Ok(op.apply(&x.contiguous()?, &weight.detach(), &bias.detach(), residual.as_ref())?)
}

/// The number of channels, when everything fits.
fn check(x: &Tensor, of_channels: &[&Tensor], residual: Option<&Tensor>) -> Result<usize> {
    let channels = x.dims().last().copied().unwrap_or(0);
    let fits = of_channels.iter().all(|tensor| tensor.dims() == [channels])
        && residual.is_none_or(|residual| residual.dims() == x.dims());
    match fits && channels > 0 {
        true => Ok(channels),
        false => Err(Error::bug(format!(
            "batch normalization of {:?}: weights {:?}, residual {:?}",
            x.dims(),
            of_channels.iter().map(|tensor| tensor.dims()).collect::<Vec<_>>(),
            residual.map(Tensor::dims)
        ))),
    }
}

/// Mean and biased variance of each channel.
struct Moments {
    mean: Vec<f64>,
    var: Vec<f64>,
}

impl Moments {
    /// Blocks of one task.
    const BLOCKS: usize = 8;

    /// One pass: sums and sums of squares of the distance to the first block's mean, f32 within a block, f64 across.
    /// The variance holds at least the first block's share of that distance, so at most as many times the rounding of a
    /// block is lost as there are blocks, however large the mean is against the deviation.
    fn of(x: &[f32], channels: usize) -> Self {
        let lanes = Lanes::new(channels);
        let center = first_mean(x, &lanes);
        let wide = lanes.widen(&center);
        let tasks: Vec<[Vec<f64>; 2]> =
            x.par_chunks(lanes.block() * Self::BLOCKS).map(|task| distance_sums(task, &wide, &lanes)).collect();
        let [sums, squares] = total(&tasks, channels);
        let rows = (x.len() / channels) as f64;
        let offset = |c: usize| sums[c] / rows;
        Self {
            mean: (0..channels).map(|c| f64::from(center[c]) + offset(c)).collect(),
            var: (0..channels).map(|c| (squares[c] / rows - offset(c) * offset(c)).max(0.0)).collect(),
        }
    }
}

/// The mean of the first block.
fn first_mean(x: &[f32], lanes: &Lanes) -> Vec<f32> {
    let block = &x[..x.len().min(lanes.block())];
    let mut sums = vec![0.0; lanes.channels];
    lanes.fold(block, &mut sums);
    let rows = (block.len() / lanes.channels) as f64;
    sums.iter().map(|sum| (sum / rows) as f32).collect()
}

/// The sum over tasks, in order.
fn total<const N: usize>(tasks: &[[Vec<f64>; N]], channels: usize) -> [Vec<f64>; N] {
    let mut totals = [const { Vec::new() }; N];
    for (i, total) in totals.iter_mut().enumerate() {
        total.resize(channels, 0.0);
        for task in tasks {
            total.iter_mut().zip(&task[i]).for_each(|(total, value)| *total += value);
        }
    }
    totals
}

/// Sums of `x - center` and of its square for each channel.
fn distance_sums(x: &[f32], center: &[f32], lanes: &Lanes) -> [Vec<f64>; 2] {
    sums_of_blocks(lanes, x.chunks(lanes.block()), |block, sums, squares| {
        add_distances(block, center, sums, squares);
    })
}

/// Calls `add` with each block and the wide rows its two sums go into, then folds them into the channels.
fn sums_of_blocks<T>(
    lanes: &Lanes,
    blocks: impl Iterator<Item = T>,
    mut add: impl FnMut(T, &mut [f32], &mut [f32]),
) -> [Vec<f64>; 2] {
    let mut totals = [vec![0.0; lanes.channels], vec![0.0; lanes.channels]];
    let mut wide = [vec![0.0f32; lanes.width], vec![0.0f32; lanes.width]];
    for block in blocks {
        let [first, second] = &mut wide;
        add(block, first, second);
        for (wide, total) in wide.iter_mut().zip(&mut totals) {
            lanes.fold(wide, total);
            wide.fill(0.0);
        }
    }
    totals
}

vectorized! {
    fn add_distances(x: &[f32], center: &[f32], sums: &mut [f32], squares: &mut [f32]) {
        for x in x.chunks(center.len()) {
            for (((&x, &center), sum), square) in x.iter().zip(center).zip(&mut *sums).zip(&mut *squares) {
                let distance = x - center;
                *sum += distance;
                *square = distance.mul_add(distance, *square);
            }
        }
    }

    /// `y = act((x - center) * scale + shift)`.
    fn forward_rows<F: Function>(map: &Map, y: &mut [Slot], x: &[f32]) {
        let (center, scale, shift) = (&map.center[..], &map.scale[..], &map.shift[..]);
        for (y, x) in y.chunks_mut(center.len()).zip(x.chunks(center.len())) {
            for ((((y, &x), &center), &scale), &shift) in y.iter_mut().zip(x).zip(center).zip(scale).zip(shift) {
                y.write(F::value((x - center).mul_add(scale, shift)));
            }
        }
    }

    /// `y = act((x - center) * scale + shift + residual)`.
    fn forward_rows_residual<F: Function>(map: &Map, y: &mut [Slot], x: &[f32], residual: &[f32]) {
        let (center, scale, shift) = (&map.center[..], &map.scale[..], &map.shift[..]);
        let width = center.len();
        for ((y, x), residual) in y.chunks_mut(width).zip(x.chunks(width)).zip(residual.chunks(width)) {
            let inputs = x.iter().zip(residual);
            for ((((y, (&x, &residual)), &center), &scale), &shift) in
                y.iter_mut().zip(inputs).zip(center).zip(scale).zip(shift)
            {
                y.write(F::value((x - center).mul_add(scale, shift) + residual));
            }
        }
    }

    /// `dz`, the gradient in front of the activation; adds it and `dz * (x - center)` to the sums.
    fn backward_rows<F: Function>(
        map: &Map,
        dz: &mut [Slot],
        x: &[f32],
        dy: &[f32],
        sums: &mut [f32],
        products: &mut [f32],
    ) {
        let width = map.center.len();
        let (center, scale, shift) = (&map.center[..width], &map.scale[..width], &map.shift[..width]);
        let (sums, products) = (&mut sums[..width], &mut products[..width]);
        for ((dz, x), dy) in dz.chunks_mut(width).zip(x.chunks(width)).zip(dy.chunks(width)) {
            for i in 0..dz.len().min(x.len()).min(dy.len()).min(width) {
                let distance = x[i] - center[i];
                let gradient = dy[i] * F::slope(distance.mul_add(scale[i], shift[i]));
                dz[i].write(gradient);
                sums[i] += gradient;
                products[i] = gradient.mul_add(distance, products[i]);
            }
        }
    }

    /// The same with a residual.
    fn backward_rows_residual<F: Function>(
        map: &Map,
        dz: &mut [Slot],
        x: &[f32],
        residual: &[f32],
        dy: &[f32],
        sums: &mut [f32],
        products: &mut [f32],
    ) {
        let width = map.center.len();
        let (center, scale, shift) = (&map.center[..width], &map.scale[..width], &map.shift[..width]);
        let (sums, products) = (&mut sums[..width], &mut products[..width]);
        let inputs = x.chunks(width).zip(residual.chunks(width));
        for ((dz, (x, residual)), dy) in dz.chunks_mut(width).zip(inputs).zip(dy.chunks(width)) {
            for i in 0..dz.len().min(x.len()).min(residual.len()).min(dy.len()).min(width) {
                let distance = x[i] - center[i];
                let gradient = dy[i] * F::slope(distance.mul_add(scale[i], shift[i]) + residual[i]);
                dz[i].write(gradient);
                sums[i] += gradient;
                products[i] = gradient.mul_add(distance, products[i]);
            }
        }
    }

    /// Where `dz` is at hand: adds it and `dz * (x - center)` to the sums.
    fn add_gradients(x: &[f32], dz: &[f32], center: &[f32], sums: &mut [f32], products: &mut [f32]) {
        for (x, dz) in x.chunks(center.len()).zip(dz.chunks(center.len())) {
            let inputs = x.iter().zip(dz).zip(center);
            for (((&x, &dz), &center), (sum, product)) in inputs.zip(sums.iter_mut().zip(&mut *products)) {
                *sum += dz;
                *product = dz.mul_add(x - center, *product);
            }
        }
    }

    /// `dx = dz * scale + (x - center) * slope + shift`.
    fn input_rows(map: &Back, dx: &mut [Slot], x: &[f32], dz: &[f32]) {
        let width = map.center.len();
        let (center, scale, slope, shift) =
            (&map.center[..width], &map.scale[..width], &map.slope[..width], &map.shift[..width]);
        for ((dx, x), dz) in dx.chunks_mut(width).zip(x.chunks(width)).zip(dz.chunks(width)) {
            for i in 0..dx.len().min(x.len()).min(dz.len()).min(width) {
                dx[i].write(dz[i].mul_add(scale[i], (x[i] - center[i]).mul_add(slope[i], shift[i])));
            }
        }
    }

    /// The same over `dz` itself.
    fn input_rows_in_place(map: &Back, dz: &mut [f32], x: &[f32]) {
        let width = map.center.len();
        let (center, scale, slope, shift) =
            (&map.center[..width], &map.scale[..width], &map.slope[..width], &map.shift[..width]);
        for (dz, x) in dz.chunks_mut(width).zip(x.chunks(width)) {
            for i in 0..dz.len().min(x.len()).min(width) {
                dz[i] = dz[i].mul_add(scale[i], (x[i] - center[i]).mul_add(slope[i], shift[i]));
            }
        }
    }
}

/// The operation on the tape: of `x`, weight and bias as one `(2, C)` tensor, and the residual where there is one.
struct Normalize {
    moments: Moments,
    activation: Activation,
    eps: f64,
}

/// The channelwise part of the forward pass, widened.
struct Map {
    center: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// The channelwise part of the input's gradient, widened.
struct Back {
    center: Vec<f32>,
    scale: Vec<f32>,
    slope: Vec<f32>,
    shift: Vec<f32>,
}

impl Moments {
    /// The means as f32, and what each lost by rounding.
    fn centers(&self) -> (Vec<f32>, Vec<f64>) {
        let centers: Vec<f32> = self.mean.iter().map(|&mean| mean as f32).collect();
        let lost = centers.iter().zip(&self.mean).map(|(&center, mean)| f64::from(center) - mean).collect();
        (centers, lost)
    }
}

impl Normalize {
    fn apply(self, x: &Tensor, weight: &Tensor, bias: &Tensor, residual: Option<&Tensor>) -> Candle<Tensor> {
        let affine = Tensor::stack(&[weight, bias], 0)?;
        match residual {
            Some(residual) => apply3(self, [x, &affine, residual]),
            None => apply2(self, [x, &affine]),
        }
    }

    fn lanes(&self) -> Lanes {
        Lanes::new(self.moments.mean.len())
    }

    /// 1 / sqrt(var + eps) of each channel.
    fn inverses(&self) -> Vec<f64> {
        self.moments.var.iter().map(|var| 1.0 / (var + self.eps).sqrt()).collect()
    }

    /// The mean is rounded to f32; the shift makes up for it.
    fn map(&self, affine: &[f32], lanes: &Lanes) -> Map {
        let (weight, bias) = affine.split_at(lanes.channels);
        let (center, lost) = self.moments.centers();
        let exact: Vec<f64> =
            weight.iter().zip(self.inverses()).map(|(&weight, inv)| f64::from(weight) * inv).collect();
        let shift =
            bias.iter().zip(lost.iter().zip(&exact)).map(|(&bias, (lost, k))| (f64::from(bias) + lost * k) as f32);
        let scale: Vec<f32> = exact.iter().map(|&scale| scale as f32).collect();
        Map { center: lanes.widen(&center), scale: lanes.widen(&scale), shift: lanes.widen(&shift.collect::<Vec<_>>()) }
    }

    fn forward(&self, x: &[f32], affine: &[f32], residual: Option<&[f32]>) -> Vec<f32> {
        let lanes = self.lanes();
        let (map, block) = (self.map(affine, &lanes), lanes.block());
        let mut y = Fresh::new(x.len());
        // Backwards: the end of `x` has just been read for the statistics and is still in the caches.
        let blocks = y.slots().par_chunks_mut(block).zip(x.par_chunks(block));
        with_function!(self.activation, F => match residual {
            None => blocks.rev().for_each(|(y, x)| forward_rows::<F>(&map, y, x)),
            Some(residual) => blocks.zip(residual.par_chunks(block)).rev()
                .for_each(|((y, x), residual)| forward_rows_residual::<F>(&map, y, x, residual)),
        });
        // SAFETY: the blocks cover all of `y`; `x` and the residual have its length.
        unsafe { y.done() }
    }

    /// The gradients of `x`, of weight and bias as one `(2, C)`, and of the residual where that is not `dy` itself.
    fn backward(&self, x: &[f32], affine: &[f32], residual: Option<&[f32]>, dy: &[f32], needs: Needs) -> Gradients {
        let lanes = self.lanes();
        let (dz, [sums, products]) = match self.activation {
            Activation::Identity => (None, self.sums(x, dy, &lanes)),
            _ => {
                let (dz, sums) = self.inner_gradient(&self.map(affine, &lanes), x, residual, dy, &lanes);
                (Some(dz), sums)
            }
        };
        let back = needs.x.then(|| self.back(affine, [&sums, &products], x.len(), &lanes));
        let (dx, dresidual) = match (back, dz) {
            (None, dz) => (None, dz),
            (Some(back), None) => (Some(fresh_input_gradient(&back, x, dy, lanes.block())), None),
            (Some(back), Some(dz)) if needs.residual => {
                (Some(fresh_input_gradient(&back, x, &dz, lanes.block())), Some(dz))
            }
            (Some(back), Some(mut dz)) => {
                let blocks = dz.par_chunks_mut(lanes.block()).zip(x.par_chunks(lanes.block()));
                blocks.rev().for_each(|(dz, x)| input_rows_in_place(&back, dz, x));
                (Some(dz), None)
            }
        };
        let weight = products.iter().zip(self.inverses()).map(|(product, inv)| (product * inv) as f32);
        let affine = weight.chain(sums.iter().map(|&sum| sum as f32)).collect();
        Gradients { x: dx, affine, residual: dresidual }
    }

    /// The sums over rows of `dz` and of `dz * (x - mean)`.
    fn sums(&self, x: &[f32], dz: &[f32], lanes: &Lanes) -> [Vec<f64>; 2] {
        let (center, _) = self.moments.centers();
        let (wide, block) = (lanes.widen(&center), lanes.block());
        let task = block * Moments::BLOCKS;
        let tasks = x.par_chunks(task).zip(dz.par_chunks(task)).map(|(x, dz)| {
            sums_of_blocks(lanes, x.chunks(block).zip(dz.chunks(block)), |(x, dz), sums, products| {
                add_gradients(x, dz, &wide, sums, products);
            })
        });
        self.about_the_mean(total(&tasks.collect::<Vec<_>>(), lanes.channels))
    }

    /// `dz` and, on the way, its sums.
    fn inner_gradient(
        &self,
        map: &Map,
        x: &[f32],
        residual: Option<&[f32]>,
        dy: &[f32],
        lanes: &Lanes,
    ) -> (Vec<f32>, [Vec<f64>; 2]) {
        let block = lanes.block();
        let task = block * Moments::BLOCKS;
        let mut dz = Fresh::new(x.len());
        let inputs = x.par_chunks(task).zip(dy.par_chunks(task));
        let tasks = dz.slots().par_chunks_mut(task).zip(inputs).enumerate().map(|(i, (dz, (x, dy)))| {
            let blocks = dz.chunks_mut(block).zip(x.chunks(block)).zip(dy.chunks(block)).enumerate();
            sums_of_blocks(lanes, blocks, |(j, ((dz, x), dy)), sums, products| {
                with_function!(self.activation, F => match residual {
                    None => backward_rows::<F>(map, dz, x, dy, sums, products),
                    Some(residual) => {
                        let residual = &residual[i * task + j * block..];
                        backward_rows_residual::<F>(map, dz, x, residual, dy, sums, products);
                    }
                })
            })
        });
        let sums = total(&tasks.collect::<Vec<_>>(), lanes.channels);
        // SAFETY: the tasks' blocks cover all of `dz`; the others have its length.
        (unsafe { dz.done() }, self.about_the_mean(sums))
    }

    /// From the rounded mean to the mean.
    fn about_the_mean(&self, [sums, mut products]: [Vec<f64>; 2]) -> [Vec<f64>; 2] {
        let (_, lost) = self.moments.centers();
        for (product, (lost, sum)) in products.iter_mut().zip(lost.iter().zip(&sums)) {
            *product += lost * sum;
        }
        [sums, products]
    }

    /// `dx = weight / sqrt(var + eps) * (dz - mean(dz) - xhat * mean(dz * xhat))`, as a function of `dz` and `x - center`.
    fn back(&self, affine: &[f32], [sums, products]: [&[f64]; 2], len: usize, lanes: &Lanes) -> Back {
        let rows = (len / lanes.channels) as f64;
        let (center, lost) = self.moments.centers();
        let [mut scale, mut slope, mut shift] = [const { Vec::new() }; 3];
        for (c, inverse) in self.inverses().into_iter().enumerate() {
            let k = f64::from(affine[c]) * inverse;
            let exact = -k * inverse * inverse * products[c] / rows;
            scale.push(k as f32);
            slope.push(exact as f32);
            shift.push((exact * lost[c] - k * sums[c] / rows) as f32);
        }
        let [center, scale, slope, shift] = [center, scale, slope, shift].map(|values| lanes.widen(&values));
        Back { center, scale, slope, shift }
    }

    fn gradients(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: Option<&Tensor>,
        dy: &Tensor,
    ) -> Candle<[Option<Tensor>; 3]> {
        let needs = Needs { x: x.track_op(), residual: residual.is_some_and(Tensor::track_op) };
        let kept = residual.map(Values::of).transpose()?;
        let gradients = self.backward(&Values::of(x)?, &Values::of(affine)?, kept.as_deref(), &Values::of(dy)?, needs);
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        let dx = gradients.x.map(|values| tensor(values, x)).transpose()?;
        let daffine = affine.track_op().then(|| tensor(gradients.affine, affine)).transpose()?;
        let dresidual = match (needs.residual, gradients.residual) {
            (true, Some(values)) => Some(tensor(values, x)?),
            (true, None) => Some(dy.clone()),
            (false, _) => None,
        };
        Ok([dx, daffine, dresidual])
    }
}

/// Which of the large gradients are asked for.
#[derive(Clone, Copy)]
struct Needs {
    x: bool,
    residual: bool,
}

struct Gradients {
    x: Option<Vec<f32>>,
    affine: Vec<f32>,
    residual: Option<Vec<f32>>,
}

fn fresh_input_gradient(back: &Back, x: &[f32], dz: &[f32], block: usize) -> Vec<f32> {
    let mut dx = Fresh::new(x.len());
    let blocks = dx.slots().par_chunks_mut(block).zip(x.par_chunks(block)).zip(dz.par_chunks(block));
    blocks.rev().for_each(|((dx, x), dz)| input_rows(back, dx, x, dz));
    // SAFETY: the blocks cover all of `dx`, whose length is that of `x` and `dz`.
    unsafe { dx.done() }
}

impl Op<2> for Normalize {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu(&self, [x, affine]: [Given; 2]) -> Candle<(Vec<f32>, Shape)> {
        let y = self.forward(x.values, affine.values, None);
        Ok((y, x.shape.clone()))
    }

    fn cpu_gradients(&self, [x, affine]: [&Tensor; 2], _y: &Tensor, dy: &Tensor) -> Candle<[Option<Tensor>; 2]> {
        let [dx, daffine, _] = self.gradients(x, affine, None, dy)?;
        Ok([dx, daffine])
    }
}

impl Op<3> for Normalize {
    fn name(&self) -> &'static str {
        "batch-norm-residual"
    }

    fn cpu(&self, [x, affine, residual]: [Given; 3]) -> Candle<(Vec<f32>, Shape)> {
        let y = self.forward(x.values, affine.values, Some(residual.values));
        Ok((y, x.shape.clone()))
    }

    fn cpu_gradients(
        &self,
        [x, affine, residual]: [&Tensor; 3],
        _y: &Tensor,
        dy: &Tensor,
    ) -> Candle<[Option<Tensor>; 3]> {
        self.gradients(x, affine, Some(residual), dy)
    }
}
