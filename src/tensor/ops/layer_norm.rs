//! Layer normalization.

use super::{
    memory::{Fresh, Slot},
    simd::vectorized,
};
use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Array, Columns, Grid, Queue, View, args},
        ops::op::{Given, Gradient, Known, Op, apply3},
    },
};
use candle_core::{DType, Result as Candle, Shape, Tensor};
use rayon::prelude::*;
use std::sync::OnceLock;

/// `torch.nn.functional.layer_norm` over the last axis: `(x - mean) / sqrt(var + eps) * weight + bias` with each row's own
/// mean and biased variance; `affine` is `(weight, bias)`, `(C)` each, ones and zeros where `None`.
pub fn layer_norm(x: &Tensor, affine: Option<(&Tensor, &Tensor)>, eps: f64) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(0);
    let fits = |(weight, bias): (&Tensor, &Tensor)| weight.dims() == [width] && bias.dims() == [width];
    if width == 0 || !affine.is_none_or(fits) {
        let shapes = affine.map(|(weight, bias)| [weight.dims(), bias.dims()]);
        return Err(Error::bug(format!("layer normalization of {:?}: weight and bias {shapes:?}", x.dims())));
    }
    let (weight, bias) = match affine {
        Some((weight, bias)) => (weight.clone(), bias.clone()),
        None => (Tensor::ones(width, DType::F32, x.device())?, Tensor::zeros(width, DType::F32, x.device())?),
    };
    Ok(apply3(LayerNorm { width, eps: eps as f32, statistics: OnceLock::new() }, [x, &weight, &bias])?)
}

struct LayerNorm {
    width: usize,
    eps: f32,
    /// Each row's mean and 1 / sqrt(var + eps), as a GPU's forward pass found them.
    statistics: OnceLock<Array>,
}

/// Elements of one task's rows: fixed, so that the sums over rows do not depend on the number of threads.
const BLOCK: usize = 1 << 14;

impl LayerNorm {
    /// Elements of whole rows that one task works on.
    fn block(&self) -> usize {
        self.width * (BLOCK / self.width).max(1)
    }

    /// The gradients of `x`, weight and bias.
    fn backward(&self, x: &[f32], weight: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
        let mut dx = Fresh::new(x.len());
        let rows = dx.slots().par_chunks_mut(self.block()).zip(x.par_chunks(self.block()));
        let sums: Vec<[Vec<f32>; 2]> = rows
            .zip(dy.par_chunks(self.block()))
            .map(|((dx, x), dy)| {
                let [mut dweight, mut dbias] = [(); 2].map(|()| vec![0.0; self.width]);
                backward_rows(weight, self.eps, dx, x, dy, &mut dweight, &mut dbias);
                [dweight, dbias]
            })
            .collect();
        // SAFETY: the blocks cover all of `dx`; `x` and `dy` have its length.
        [unsafe { dx.done() }, total(&sums, 0, self.width), total(&sums, 1, self.width)]
    }
}

/// The sum over tasks, in order.
fn total(tasks: &[[Vec<f32>; 2]], which: usize, width: usize) -> Vec<f32> {
    let mut totals = vec![0.0f64; width];
    for task in tasks {
        totals.iter_mut().zip(&task[which]).for_each(|(total, &value)| *total += f64::from(value));
    }
    totals.into_iter().map(|total| total as f32).collect()
}

impl Op<3> for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu(&self, [x, weight, bias]: [Given; 3]) -> Candle<(Vec<f32>, Shape)> {
        let shape = x.shape;
        let (x, weight, bias) = (x.values, weight.values, bias.values);
        let mut y = Fresh::new(x.len());
        let blocks = y.slots().par_chunks_mut(self.block()).zip(x.par_chunks(self.block()));
        blocks.for_each(|(y, x)| forward_rows(weight, bias, self.eps, y, x));
        // SAFETY: the blocks cover all of `y`.
        Ok((unsafe { y.done() }, shape.clone()))
    }

    fn cpu_gradients(&self, known: Known<Given, 3>) -> Candle<[Gradient<Vec<f32>>; 3]> {
        let Known { inputs: [x, weight, _], dy, .. } = known;
        Ok(self.backward(x.values, weight.values, dy.values).map(Gradient::New))
    }

    fn gpu(&self, queue: &Queue, [x, weight, bias]: [View; 3]) -> Candle<Array> {
        let y = queue.like(x)?;
        let columns = Columns::of(x, &[]);
        let (rows, wide) = (columns.rows, i32::from(columns.wide));
        let statistics = queue.array((rows, 2), DType::F32)?;
        let arguments = args![x, weight, bias, &y, &statistics, rows, self.width, self.eps, wide];
        queue.launch("layer_norm", x.dtype, Grid::warps(rows), arguments)?;
        let _ = self.statistics.set(statistics);
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 3>) -> Candle<[Gradient; 3]> {
        let Known { inputs: [x, weight, _], dy, needs, .. } = known;
        let Some(statistics) = self.statistics.get() else {
            candle_core::bail!("layer_norm went backward before forward")
        };
        let columns = Columns::of(x, &[Some(dy)]);
        let (rows, wide) = (columns.rows, i32::from(columns.wide));
        let dx = Gradient::needed(needs[0], || {
            let dx = queue.like(x)?;
            let arguments = args![x, dy, weight, statistics, &dx, rows, self.width, wide];
            queue.launch("layer_norm_gradient", x.dtype, Grid::warps(rows), arguments)?;
            Ok(dx)
        })?;
        if !needs[1] && !needs[2] {
            return Ok([dx, Gradient::None, Gradient::None]);
        }
        let partial = queue.array((columns.chunks(), 2, self.width), DType::F32)?;
        let arguments = args![x, dy, statistics, &partial, rows, self.width, wide];
        queue.launch("layer_norm_sums", x.dtype, columns.sums(), arguments)?;
        let (dweight, dbias) = (queue.array(self.width, DType::F32)?, queue.array(self.width, DType::F32)?);
        queue.final_sums(&partial, x.dtype, &dweight, Some(&dbias))?;
        Ok([dx, Gradient::New(dweight), Gradient::New(dbias)])
    }
}

/// Sums run in this many lanes, so that they are vectors whose order is fixed.
const LANES: usize = 16;

/// The sum of a row's terms: whole vectors first, then the rest.
macro_rules! row_sum {
    (($($x:ident),+) => $term:expr) => {{
        let mut lanes = [0.0f32; LANES];
        let width = [$($x.len()),+][0];
        let whole = width - width % LANES;
        for start in (0..whole).step_by(LANES) {
            $(let $x = &$x[start..start + LANES];)+
            for lane in 0..LANES {
                $(let $x = $x[lane];)+
                lanes[lane] += $term;
            }
        }
        let mut sum = lanes.iter().sum::<f32>();
        for at in whole..width {
            $(let $x = $x[at];)+
            sum += $term;
        }
        sum
    }};
}

/// A row's mean and 1 / sqrt(variance + eps), in two passes.
#[inline(always)]
fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let share = 1.0 / x.len() as f32;
    let mean = row_sum!((x) => x) * share;
    let var = row_sum!((x) => (x - mean) * (x - mean)) * share;
    (mean, 1.0 / (var + eps).sqrt())
}

vectorized! {
    fn forward_rows(weight: &[f32], bias: &[f32], eps: f32, y: &mut [Slot], x: &[f32]) {
        let width = weight.len();
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let (mean, inverse) = moments(x, eps);
            for (((y, &x), &weight), &bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                y.write(((x - mean) * inverse).mul_add(weight, bias));
            }
        }
    }

    /// With `xhat` the normalized row and `g = dy * weight`: `dx = (g - mean(g) - xhat * mean(g * xhat)) / sqrt(var + eps)`.
    fn backward_rows(
        weight: &[f32],
        eps: f32,
        dx: &mut [Slot],
        x: &[f32],
        dy: &[f32],
        dweight: &mut [f32],
        dbias: &mut [f32],
    ) {
        let width = weight.len();
        let (dweight, dbias) = (&mut dweight[..width], &mut dbias[..width]);
        let share = 1.0 / width as f32;
        for ((dx, x), dy) in dx.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(dy.chunks_exact(width)) {
            let (mean, inverse) = moments(x, eps);
            let shift = row_sum!((dy, weight) => dy * weight) * share;
            let slope = row_sum!((dy, weight, x) => dy * weight * ((x - mean) * inverse)) * share;
            for i in 0..width {
                let normal = (x[i] - mean) * inverse;
                dx[i].write((dy[i] * weight[i] - shift - normal * slope) * inverse);
                dweight[i] = dy[i].mul_add(normal, dweight[i]);
                dbias[i] += dy[i];
            }
        }
    }
}
