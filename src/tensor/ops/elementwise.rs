//! Activations on their own.

use super::{
    Activation,
    function::{Function, with_function},
    memory::{Fresh, Slot},
    simd::vectorized,
};
use crate::error::Result;
use crate::tensor::{
    gpu::{Array, Grid, Queue, View, args},
    ops::op::{Given, Gradient, Known, Op, apply1},
};
use candle_core::{Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// Elements one task works on.
pub const BLOCK: usize = 1 << 14;

/// The activation, element by element.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Identity => Ok(x.clone()),
        _ => Ok(apply1(Activate(activation), x)?),
    }
}

struct Activate(Activation);

impl Op<1> for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let y = apply(self.0, x.values);
        Ok((y, x.shape.clone()))
    }

    fn cpu_gradients(&self, Known { inputs: [x], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        Ok([Gradient::New(gradient(self.0, x.values, dy.values))])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        let y = queue.like(x)?;
        let arguments = args![x, &y, x.count(), self.0 as i32];
        queue.launch("activate", x.dtype, Grid::over(x.count()), arguments)?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { inputs: [x], dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let dx = queue.like(x)?;
        let arguments = args![x, dy, &dx, x.count(), self.0 as i32];
        queue.launch("activate_gradient", x.dtype, Grid::over(x.count()), arguments)?;
        Ok([Gradient::New(dx)])
    }
}

/// The activation of each element, in parallel.
pub fn apply(activation: Activation, z: &[f32]) -> Vec<f32> {
    let mut y = Fresh::new(z.len());
    let blocks = y.slots().par_chunks_mut(BLOCK).zip(z.par_chunks(BLOCK));
    with_function!(activation, F => blocks.for_each(|(y, z)| values::<F>(y, z)));
    // SAFETY: the blocks cover all of `y`.
    unsafe { y.done() }
}

/// `dy` times the activation's derivative at `z`, in parallel.
pub fn gradient(activation: Activation, z: &[f32], dy: &[f32]) -> Vec<f32> {
    assert_eq!(z.len(), dy.len(), "the sizes of a value and its gradient");
    let mut dz = Fresh::new(z.len());
    let blocks = dz.slots().par_chunks_mut(BLOCK).zip(z.par_chunks(BLOCK)).zip(dy.par_chunks(BLOCK));
    with_function!(activation, F => blocks.for_each(|((dz, z), dy)| slopes::<F>(dz, z, dy)));
    // SAFETY: the blocks cover all of `dz`, whose length is that of `z` and `dy`.
    unsafe { dz.done() }
}

vectorized! {
    fn values<F: Function>(y: &mut [Slot], z: &[f32]) {
        for (y, &z) in y.iter_mut().zip(z) {
            y.write(F::value(z));
        }
    }

    fn slopes<F: Function>(dz: &mut [Slot], z: &[f32], dy: &[f32]) {
        for ((dz, &z), &dy) in dz.iter_mut().zip(z).zip(dy) {
            dz.write(dy * F::slope(z));
        }
    }
}
