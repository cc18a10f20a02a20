//! The rectifier that lets something through below zero.

use super::{
    elementwise::BLOCK,
    memory::{Fresh, Slot},
    op::{Given, Gradient, Known, Op, apply1},
    simd::vectorized,
};
use crate::{
    error::Result,
    tensor::gpu::{Array, Grid, Queue, View, args},
};
use candle_core::{Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// `gain * (x > 0 ? x : slope * x)`; the derivative at 0 is the one below it, as in torch.
pub fn leaky_relu(x: &Tensor, slope: f64, gain: f64) -> Result<Tensor> {
    Ok(apply1(LeakyRelu { more: (gain * (1.0 - slope)) as f32, below: (gain * slope) as f32 }, x)?)
}

struct LeakyRelu {
    /// By how much it is steeper above zero.
    more: f32,
    below: f32,
}

impl Op<1> for LeakyRelu {
    fn name(&self) -> &'static str {
        "leaky-relu"
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let mut y = Fresh::new(x.values.len());
        let blocks = y.slots().par_chunks_mut(BLOCK).zip(x.values.par_chunks(BLOCK));
        blocks.for_each(|(y, x)| values(y, x, self.more, self.below));
        // SAFETY: the blocks cover all of `y`.
        Ok((unsafe { y.done() }, x.shape.clone()))
    }

    fn cpu_gradients(&self, Known { inputs: [x], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let mut dx = Fresh::new(x.values.len());
        let blocks = dx.slots().par_chunks_mut(BLOCK).zip(x.values.par_chunks(BLOCK)).zip(dy.values.par_chunks(BLOCK));
        blocks.for_each(|((dx, x), dy)| slopes(dx, x, dy, self.more, self.below));
        // SAFETY: the blocks cover all of `dx`, whose length is that of `x` and `dy`.
        Ok([Gradient::New(unsafe { dx.done() })])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        let y = queue.like(x)?;
        let arguments = args![x, &y, x.count(), self.more, self.below];
        queue.launch("leaky_relu", x.dtype, Grid::over(x.count()), arguments)?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { inputs: [x], dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let dx = queue.like(x)?;
        let arguments = args![x, dy, &dx, x.count(), self.more, self.below];
        queue.launch("leaky_relu_gradient", x.dtype, Grid::over(x.count()), arguments)?;
        Ok([Gradient::New(dx)])
    }
}

vectorized! {
    fn values(y: &mut [Slot], x: &[f32], more: f32, below: f32) {
        for (y, &x) in y.iter_mut().zip(x) {
            let above = if x < 0.0 { 0.0 } else { x };
            y.write(above * more + x * below);
        }
    }

    fn slopes(dx: &mut [Slot], x: &[f32], dy: &[f32], more: f32, below: f32) {
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            let above = if x <= 0.0 { 0.0 } else { dy * more };
            dx.write(above + dy * below);
        }
    }
}
