//! Matrix product with bias and activation.

use super::{
    Activation, activate,
    memory::{Fresh, Slot, Values, slice},
    simd::vectorized,
};
use crate::error::{Error, Result};
use candle_core::{CpuStorage, CustomOp3, Layout, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// `act(x weight^T + bias)`: `x (.., in)`, `weight (out, in)`, `bias (out)`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    if x.dims().last() != Some(&inputs) || bias.dims() != [outputs] || inputs * outputs == 0 {
        return Err(Error::bug(format!(
            "linear: x {:?} does not fit weight {:?} and bias {:?}",
            x.dims(),
            weight.dims(),
            bias.dims()
        )));
    }
    let y = x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear)?;
    activate(&y, activation)
}

struct Linear;

/// Rows of one task: fixed, so that the bits do not depend on the number of threads.
const ROWS: usize = 256;

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_at: &Layout,
        weight: &CpuStorage,
        weight_at: &Layout,
        bias: &CpuStorage,
        bias_at: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let (x, weight, bias) = (slice(x, x_at)?, slice(weight, weight_at)?, slice(bias, bias_at)?);
        let (outputs, inputs) = weight_at.shape().dims2()?;
        let y = forward(x, weight, bias, inputs, outputs);
        let mut dims = x_at.dims().to_vec();
        dims.pop();
        dims.push(outputs);
        Ok((CpuStorage::F32(y), dims.into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (outputs, inputs) = weight.dims2()?;
        let dy2 = dy.contiguous()?.reshape(((), outputs))?;
        let x2 = x.reshape(((), inputs))?.detach();
        let dx = x.track_op().then(|| dy2.matmul(&weight.detach())?.reshape(x.shape())).transpose()?;
        let dw = weight.track_op().then(|| dy2.t()?.matmul(&x2)).transpose()?;
        let db = bias.track_op().then(|| column_sums(&dy2)).transpose()?;
        Ok((dx, dw, db))
    }
}

fn forward(x: &[f32], weight: &[f32], bias: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let rows = x.len() / inputs;
    let mut y = Fresh::new(rows * outputs);
    y.slots().par_chunks_mut(ROWS * outputs).zip(x.par_chunks(ROWS * inputs)).for_each(|(y, x)| {
        repeat(y, bias);
        // SAFETY: the strides describe the slices exactly, and `y` has just been written.
        unsafe {
            gemm::gemm(
                y.len() / outputs,
                outputs,
                inputs,
                y.as_mut_ptr().cast::<f32>(),
                1,
                outputs as isize,
                true,
                x.as_ptr(),
                1,
                inputs as isize,
                weight.as_ptr(),
                inputs as isize,
                1,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            )
        }
    });
    // SAFETY: the tasks cover all of `y`.
    unsafe { y.done() }
}

fn repeat(y: &mut [Slot], bias: &[f32]) {
    for y in y.chunks_exact_mut(bias.len()) {
        y.iter_mut().zip(bias).for_each(|(y, &bias)| {
            y.write(bias);
        });
    }
}

fn column_sums(dy: &Tensor) -> Candle<Tensor> {
    let values = Values::of(dy)?;
    let (_, columns) = dy.dims2()?;
    let mut sums = vec![0.0f32; columns];
    add_rows(&mut sums, &values);
    Tensor::from_vec(sums, columns, dy.device())
}

vectorized! {
    fn add_rows(sums: &mut [f32], x: &[f32]) {
        for x in x.chunks_exact(sums.len()) {
            sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
        }
    }
}
