//! Activations on their own.

use super::{
    Activation,
    function::{Function, with_function},
    memory::{Fresh, Slot, Values, slice},
    simd::vectorized,
};
use crate::error::Result;
use candle_core::{CpuStorage, CustomOp1, Layout, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// Elements one task works on.
pub const BLOCK: usize = 1 << 14;

/// The activation, element by element.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Identity => Ok(x.clone()),
        _ => Ok(x.contiguous()?.apply_op1(Activate(activation))?),
    }
}

struct Activate(Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_at: &Layout) -> Candle<(CpuStorage, Shape)> {
        let y = apply(self.0, slice(x, x_at)?);
        Ok((CpuStorage::F32(y), x_at.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Candle<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let dx = gradient(self.0, &Values::of(x)?, &Values::of(&dy)?);
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
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
